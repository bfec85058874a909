"""One calm progress line: done, total, rate, time left, failures."""

import os
import sys
import time
from typing import TextIO

from rayapp.run.record import duration

_LINE_EVERY_S = 5.0
_TERMINAL_EVERY_S = 0.2


class Progress:
    """Counts of one job, shown on stderr: rewritten in place on a terminal, else a line each 5 s.

    Use as a context manager; the last line stays.
    """

    def __init__(
        self, name: str, total: int, *, unit: str = "images", stream: TextIO | None = None
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = self.failed = 0
        self.note = ""
        self._stream = stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._start = time.monotonic()
        # Workers take seconds to start: the rate counts from the first rows that came back.
        self._first: tuple[float, int] | None = None
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        self._show()
        return self

    def __exit__(self, *error: object) -> None:
        self._show(last=True)

    def skip(self, done: int, failed: int = 0) -> None:
        """Count what an earlier run did; it does not enter the rate."""
        self.done += done
        self.failed += failed

    def update(self, done: int = 1, failed: int = 0, note: str | None = None) -> None:
        """Count more work done, of which so many failed; `note` replaces the text at the end."""
        self.done += done
        self.failed += failed
        if done:
            self._first = self._first or (time.monotonic(), self.done)
        self.note = self.note if note is None else note
        every = _TERMINAL_EVERY_S if self._in_place else _LINE_EVERY_S
        if time.monotonic() - self._shown >= every:
            self._show()

    def say(self, text: str) -> None:
        """A line of its own, above the progress line."""
        start = "\r\x1b[K" if self._in_place else ""
        self._stream.write(f"{start}{self.name}: {text}\n")
        self._show()

    def line(self) -> str:
        """The line as it is shown now."""
        now = time.monotonic()
        parts = [f"{self.name}: {self.done:,} of {self.total:,} {self.unit}"]
        since, base = self._first or (now, self.done)
        rate = (self.done - base) / max(now - since, 1e-9)
        if rate:
            parts.append(f"{rate:,.1f}/s")
        if self._first and self.done >= self.total:
            parts.append(f"in {duration(now - self._start)}")
        elif rate:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)

    def _show(self, last: bool = False) -> None:
        self._shown = time.monotonic()
        if self._in_place:
            # A line that wraps can't be rewritten in place; a terminal may not tell its width (0).
            columns = os.get_terminal_size(self._stream.fileno()).columns
            shown = self.line() if last or not columns else self.line()[: columns - 1]
            self._stream.write(f"\r\x1b[K{shown}" + ("\n" if last else ""))
        else:
            self._stream.write(self.line() + "\n")
        self._stream.flush()
