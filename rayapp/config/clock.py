"""Since when a person waits: from the start of the command, imports and Ray's start included."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_since: float | None = None  # on the scale of time.monotonic(); None: this process is no command


def process_age_s() -> float:
    """Seconds since this process began, its imports included."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def command() -> Iterator[None]:
    """The block is what this process was started for: its time counts from the process's start."""
    global _since
    _since = time.monotonic() - process_age_s()
    try:
        yield
    finally:
        _since = None


def count_anew() -> None:
    """Of several steps that one command runs, the next counts from here."""
    global _since
    _since = None if _since is None else time.monotonic()


def since() -> float:
    """When what is under way began, on the scale of time.monotonic(); now, outside of a command."""
    return time.monotonic() if _since is None else _since
