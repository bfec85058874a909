"""Where workers post how far they are: for the driver's progress line, and for those that read."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import ray

from rayapp.cluster.session import beside_driver
from rayapp.run.progress import Progress

_POLL_S = 0.5


@ray.remote(num_cpus=0)
class Board:
    """Where a training worker posts its state, and which epoch is to be read."""

    def __init__(self) -> None:
        self._posted: dict[str, Any] = {}
        self._lines: list[str] = []
        self._epochs: dict[str, int] = {}

    def post(self, done: int | None, note: str) -> None:
        """Replace the state; `done` None: no more than before."""
        self._posted = {"done": done, "note": note}

    def say(self, text: str) -> None:
        """What is to be read whatever comes after it."""
        self._lines.append(text)

    def begin(self, stage: str, epoch: int) -> None:
        """What is read of a stage from now on is its epoch `epoch`, from 0."""
        self._epochs[stage] = epoch

    def epoch(self, stage: str) -> int:
        """The epoch that began last."""
        return self._epochs[stage]

    def read(self, num_lines: int) -> tuple[dict[str, Any], list[str]]:
        """The latest state, empty before the first post; what was said after so many."""
        return self._posted, self._lines[num_lines:]


@contextlib.contextmanager
def watched(progress: Progress) -> Iterator[Any]:
    """A board whose posts drive `progress` while the block runs; yields the board's handle."""
    board = Board.options(scheduling_strategy=beside_driver()).remote()  # type: ignore[attr-defined]
    stop = threading.Event()

    def poll() -> None:
        num_lines = 0
        while not stop.wait(_POLL_S):
            with contextlib.suppress(ray.exceptions.RayError):
                posted, lines = ray.get(board.read.remote(num_lines), timeout=5)
                for text in lines:
                    progress.say(text)
                num_lines += len(lines)
                if posted:
                    done = progress.done if posted["done"] is None else posted["done"]
                    progress.update(done - progress.done, note=posted["note"])

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join()
        ray.kill(board)
