"""The progress line: on a terminal in place, elsewhere a plain line every few seconds."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import termios
import time

import pytest

from rayapp.run import progress
from rayapp.run.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; tests move it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_where_there_is_no_terminal(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("perturb", 3000, stream=stream) as shown:
        for _ in range(120):
            clock[0] += 0.1
            shown.update(10, failed=0)
        shown.update(1800, failed=7)
    assert stream.getvalue().splitlines() == [
        "perturb: 0 of 3,000 images",
        "perturb: 500 of 3,000 images, 100.0/s, 25 s left",
        "perturb: 1,000 of 3,000 images, 100.0/s, 20 s left",
        "perturb: 3,000 of 3,000 images, 251.3/s, in 12 s, 7 failed",
    ]
    assert "\r" not in stream.getvalue()


def test_what_an_earlier_run_did_does_not_enter_the_rate(clock: list[float]) -> None:
    shown = Progress("predict", 1000, stream=io.StringIO())
    shown.skip(600, failed=2)
    assert shown.line() == "predict: 600 of 1,000 images, 2 failed"
    clock[0] += 60  # workers start; the first rows set the rate's beginning
    shown.update(100)
    assert shown.line() == "predict: 700 of 1,000 images, 2 failed"
    clock[0] += 10
    shown.update(100)
    assert shown.line() == "predict: 800 of 1,000 images, 10.0/s, 20 s left, 2 failed"


def test_note_and_unit() -> None:
    shown = Progress("train", 10, unit="epochs", stream=io.StringIO())
    shown.update(0, note="loss 0.31")
    shown.update(0)
    assert shown.line() == "train: 0 of 10 epochs, loss 0.31"


def test_what_is_said_has_a_line_of_its_own() -> None:
    stream = io.StringIO()
    with Progress("train", 4, stream=stream) as shown:
        shown.say("worker 0 failed: the card is full")
        shown.update(4)
    assert stream.getvalue().splitlines()[1] == "train: worker 0 failed: the card is full"


def test_nothing_to_do() -> None:
    stream = io.StringIO()
    with Progress("prune", 0, stream=stream):
        pass
    assert stream.getvalue().splitlines()[-1] == "prune: 0 of 0 images"


def test_the_last_line_stays_after_an_error() -> None:
    stream = io.StringIO()
    shown = Progress("prune", 9, stream=stream)
    with contextlib.suppress(ZeroDivisionError), shown:
        shown.update(4)
        raise ZeroDivisionError
    assert stream.getvalue().splitlines()[-1].startswith("prune: 4 of 9 images")


def _on_a_terminal(columns: int, note: str) -> str:
    """What a terminal of so many columns receives of a stage."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        with Progress("perturb", 40, stream=terminal) as shown:
            for _ in range(40):
                time.sleep(0.01)
                shown.update(note=note)
        received = b""
        while not received.endswith(b"\n"):
            received += os.read(master, 4096)
    os.close(master)
    return received.decode()


def test_one_line_rewritten_on_a_terminal() -> None:
    received = _on_a_terminal(80, "")
    assert received.count("\n") == 1
    assert received.endswith("\n")
    drawn = received.split("\r\x1b[K")
    assert 3 <= len(drawn) - 1 <= 8  # calm: at most every 0.2 s
    assert drawn[1] == "perturb: 0 of 40 images"
    assert re.fullmatch(r"perturb: 40 of 40 images, [\d.]+/s, in \d s\r\n", drawn[-1])


def test_a_narrow_terminal_gets_no_wrapped_lines() -> None:
    *drawn, last = _on_a_terminal(30, "a long note " * 5).split("\r\x1b[K")
    assert max(map(len, drawn)) == 29
    assert last.startswith("perturb: 40 of 40 images")


def test_a_note_alone_does_not_begin_the_rate(clock: list[float]) -> None:
    shown = Progress("train", 100, stream=io.StringIO())
    shown.update(0, note="features: 1 of 9 images")
    clock[0] += 60
    assert shown.line() == "train: 0 of 100 images, features: 1 of 9 images"
    shown.update(10, note="stage2")
    clock[0] += 1
    shown.update(10)
    assert shown.line() == "train: 20 of 100 images, 10.0/s, 8 s left, stage2"
