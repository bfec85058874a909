"""Ctrl-C ends a job in one line and with exit code 130 at any time, also while it is imported."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
TEXT = "interrupted; the same command goes on from here"

Handler = Callable[[int, FrameType | None], NoReturn]
_came = False


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, f"\n{TEXT}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    global _came
    _came = True
    raise KeyboardInterrupt


def _take_over(handler: Handler) -> None:
    # A shell's background job ignores Ctrl-C, and others may have a handler of their own.
    ours = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _leave)
    if ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def leave_at_once() -> None:
    """Until the job begins: end the process, for there is nothing to clean up yet.

    Out of the C code of what is being imported, an exception would come as anything.
    """
    _take_over(_leave)


def raise_from_now_on() -> None:
    """The job has begun: Ctrl-C is a KeyboardInterrupt, which its blocks can clean up after."""
    _take_over(_raise)


def came() -> bool:
    """Whether Ctrl-C came, whatever has become of its KeyboardInterrupt on the way."""
    return _came
