"""Ray started while something else that takes long is done, such as listing a large prefix."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from rayapp.cluster.session import session
from rayapp.config.settings import JobSettings

T = TypeVar("T")
_LONG_S = 1.0  # few images are listed by then, and need no Ray


def meanwhile(settings: JobSettings, opened: contextlib.ExitStack, work: Callable[[], T]) -> T:
    """What `work` gives; if that takes long, with a Ray session that was opened meanwhile.

    Args:
        settings: of the session.
        opened: closes the session, which cluster.session later finds open.
        work: done in a thread.

    Raises:
        JobFailed: the cluster can't be reached; and what `work` raises.
    """
    found: Future[T] = Future()
    # A daemon, so that Ctrl-C need not wait for it.
    threading.Thread(target=_into, args=(found, work), daemon=True).start()
    with contextlib.suppress(TimeoutError):
        found.exception(_LONG_S)
    if not found.done():
        opened.enter_context(session(settings))
    return found.result()


def _into(found: Future[T], work: Callable[[], T]) -> None:
    try:
        found.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        found.set_exception(error)
