"""Between a stream that decodes and the threads that store: batches, and where to take it up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rayapp.download.archives.streams import Found, ResumePoint
from rayapp.download.wanted import STATE

if TYPE_CHECKING:
    from rayapp.download.source_plan import Task
    from rayapp.storage.store import Store

BATCH = 64


def batches(
    push: Callable[[Callable[[Found | ResumePoint], None]], None],
) -> Iterator[tuple[list[Found], ResumePoint | None]]:
    """What `push` sends, in batches: its decoding goes on while a batch is stored.

    A batch ends at a resume point, which comes with it; an error of `push` comes after all batches.
    """
    sent: queue.Queue[Found | ResumePoint | BaseException | None] = queue.Queue(BATCH)
    stopped = threading.Event()

    def put(each: Found | ResumePoint | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                sent.put(each, timeout=0.2)
            except queue.Full:
                continue
            return
        raise InterruptedError

    def work() -> None:
        try:
            push(put)
            put(None)
        except InterruptedError:
            return
        except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread
            with contextlib.suppress(InterruptedError):
                put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    batch: list[Found] = []
    try:
        while True:
            each = sent.get()
            if isinstance(each, Found):
                batch.append(each)
                if len(batch) < BATCH and not sent.empty():
                    continue
                yield batch, None
            elif isinstance(each, ResumePoint):
                yield batch, each
            else:
                if batch:
                    yield batch, None
                if each is None:
                    return
                raise each
            batch = []
    finally:
        stopped.set()
        thread.join(5)


def point_key(task: Task) -> str:
    """Where the resume point of a stream is kept."""
    name = hashlib.sha256(f"{task.source}\0{task.uri}".encode()).hexdigest()[:24]
    return f"{STATE}/resume/{name}"


def save_point(store: Store, task: Task, point: ResumePoint, names: list[str]) -> None:
    """Keep a point, with the names that were wanted up to it."""
    head = json.dumps({"offset": point.offset, "names": names}).encode()
    store.put(point_key(task), len(head).to_bytes(8, "little") + head + point.gzip_index)


def load_point(store: Store, task: Task, names: set[str]) -> ResumePoint | None:
    """The saved point, if what is wanted now was wanted then: the rest was not looked at."""
    try:
        data = store.get(point_key(task))
    except FileNotFoundError:
        return None
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    if not names <= set(head["names"]):
        return None
    return ResumePoint(head["offset"], data[8 + size :])
