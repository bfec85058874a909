"""Batches: lists of images under allowed roots, scored by the predict job one after the other.

Each is a folder under the service's output: `batch.json` (what it is and how it stands), the list,
and what predict writes. A service that starts again goes on with what was not done.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import Literal

import pyarrow as pa

from rayapp.dataset.manifest import write_table
from rayapp.serve.batch.batch_roots import Root, under_one_root
from rayapp.serve.refusals import Refused, bad_request
from rayapp.serve.score_contract import Row
from rayapp.storage.uris import open_store

State = Literal["waiting", "running", "done", "failed", "cancelled"]
MOST_IMAGES = 100_000
_MOST_WAITING = 16
_STATE, _LIST, _SCORES = "batch.json", "images.parquet", "scores"
_STOP_S = 20.0
_log = logging.getLogger("ray.serve.imaginet")
_ENDED_WELL = (0, 3)  # done; done but for images that are named


@dataclass(frozen=True)
class Batch:
    """One batch, as its folder has it; `token` is whose it is."""

    id: str
    token: str
    detector: str
    stability: str
    root: str
    num_images: int
    state: State = "waiting"
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class Batches:
    """The batches of a service.

    Args:
        folder: URI under which each has its own.
        roots: where images may lie.
        detectors: URI by name.
        options: of predict, the same for all.
        environment: what its process gets beside this one's.
    """

    def __init__(
        self,
        folder: str,
        roots: Sequence[str],
        detectors: Mapping[str, str],
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._store = folder, open_store(folder)
        self._roots = [Root.of(uri) for uri in roots]
        self._detectors, self._options = detectors, options
        self._environment = environment or {}
        self._lock, self._over = threading.Lock(), False
        self._batches: dict[str, Batch] = {}
        self._process: tuple[str, subprocess.Popen[str]] | None = None
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._go_on()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, images: Sequence[str], detector: str, stability: str, token: str) -> Row:
        """Put a batch on the list.

        Raises:
            Refused: an image that lies under no root; as many batches wait as may.
        """
        if not self._roots:
            raise Refused(404, "this service takes no batches")
        if len(images) > MOST_IMAGES:
            raise bad_request(f"{len(images)} images; a batch takes {MOST_IMAGES} at most")
        with self._lock:
            waiting = sum(one.state == "waiting" for one in self._batches.values())
            if waiting >= _MOST_WAITING:
                raise Refused(503, f"{waiting} batches wait already", retry_after_s=60)
        root, paths = under_one_root(images, self._roots)
        batch = Batch(secrets.token_hex(16), token, detector, stability, root.uri, len(paths))
        write_table(self._store, f"{batch.id}/{_LIST}", pa.table({"path": paths}))
        self._keep(batch)
        self._queue.put(batch.id)
        return self.describe(batch.id, token)

    def describe(self, name: str, token: str) -> Row:
        """How a batch stands.

        Raises:
            Refused: there is none of that name that is this token's.
        """
        batch = self._of(name, token)
        found = self._run_json(batch)
        return {
            "id": batch.id,
            "state": batch.state,
            "error": batch.error,
            "detector": batch.detector,
            "images": batch.num_images,
            "counts": found.get("counts") or None,
            "verdicts": found.get("results", {}).get("verdicts"),
        }

    def scores(self, name: str, token: str) -> bytes:
        """scores.csv of a batch that is done.

        Raises:
            Refused: there is none, or it is not done.
        """
        batch = self._of(name, token)
        if batch.state != "done":
            raise Refused(409, f"the batch is {batch.state}")
        try:
            return self._store.get(f"{batch.id}/{_SCORES}/scores.csv")
        except FileNotFoundError:
            raise Refused(404, "the scores of this batch were removed") from None

    def cancel(self, name: str, token: str) -> Row:
        """Stop a batch, or take it off the list; one that is over stays as it is.

        Raises:
            Refused: there is none of that name that is this token's.
        """
        batch = self._of(name, token)
        with self._lock:
            batch = self._batches[batch.id]
            if not batch.is_over:
                self._keep(replace(batch, state="cancelled"), locked=True)
                if self._process and self._process[0] == batch.id:
                    _stop(self._process[1])
        return self.describe(name, token)

    def close(self) -> None:
        """Stop what runs; it goes on when the service starts again."""
        with self._lock:
            self._over = True
            self._queue.put("")
            if self._process:
                _stop(self._process[1])

    def _of(self, name: str, token: str) -> Batch:
        found = self._batches.get(name)
        if found is None or found.token != token:
            raise Refused(404, "no such batch")
        return found

    def _keep(self, batch: Batch, *, locked: bool = False) -> None:
        with contextlib.nullcontext() if locked else self._lock:
            self._batches[batch.id] = batch
            self._store.put(f"{batch.id}/{_STATE}", json.dumps(asdict(batch)).encode())

    def _go_on(self) -> None:
        folders, _ = self._store.level("")
        for folder in sorted(folders):
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                batch = Batch(**json.loads(self._store.get(f"{folder.strip('/')}/{_STATE}")))
                self._batches[batch.id] = batch
                if not batch.is_over:
                    self._batches[batch.id] = replace(batch, state="waiting")
                    self._queue.put(batch.id)

    def _work(self) -> None:
        while name := self._queue.get():
            try:
                self._score(name)
            except Exception as error:  # noqa: BLE001 - of one batch; the next ones still have their turn
                _log.exception("batch %s", name)
                why = f"the service could not score it ({type(error).__name__}); its log has why"
                with self._lock:
                    self._batches[name] = replace(self._batches[name], state="failed", error=why)

    def _score(self, name: str) -> None:
        with self._lock:
            batch = self._batches[name]
            if batch.state != "waiting":
                return
            if why := self._refusal(batch):
                self._keep(replace(batch, state="failed", error=why), locked=True)
                return
            process = self._started(batch)
            self._process = name, process
            # What is kept is only told: where it can't be, the batch is scored all the same.
            self._batches[name] = replace(batch, state="running")
        _, said = process.communicate()
        with self._lock:
            self._process = None
            batch = self._batches[name]
            if self._over or batch.state != "running":
                return  # it goes on when the service starts again; or was cancelled
            self._keep(_ended(batch, process.returncode, said), locked=True)

    def _refusal(self, batch: Batch) -> str:
        """Why a batch of before is no longer scored: the service may have other settings now."""
        if batch.detector not in self._detectors:
            return f"the service no longer has a detector {batch.detector}"
        if batch.root not in [root.uri for root in self._roots]:
            return "its images lie under no folder that is still allowed"
        return ""

    def _started(self, batch: Batch) -> subprocess.Popen[str]:
        folder = f"{self._folder}/{batch.id}"
        command = [sys.executable, "-m", "rayapp", "predict", "--gallery", "0"]
        command += ["--detector", self._detectors[batch.detector], "--root", batch.root]
        command += ["--input", f"{folder}/{_LIST}", "--column", "path"]
        command += ["--output", f"{folder}/{_SCORES}", "--stability", batch.stability]
        return subprocess.Popen(  # noqa: S603 - our own job; what is asked for stands in a file
            [*command, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ | self._environment,
            start_new_session=True,
        )

    def _run_json(self, batch: Batch) -> Row:
        try:
            found: Row = json.loads(self._store.get(f"{batch.id}/{_SCORES}/run.json"))
            return found
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}


def _ended(batch: Batch, code: int, said: str) -> Batch:
    if code in _ENDED_WELL:
        return replace(batch, state="done")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    why = errors[-1].removeprefix("error: ") if errors else f"predict ended with code {code}"
    return replace(batch, state="failed", error=why)


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask a process and all that it started to end; what does not is killed."""

    def over() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    threading.Thread(target=over, daemon=True).start()
