"""The work of a worker: files read and decoded ahead in threads while the network computes."""

import itertools
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any

import cv2
import torch

from rayapp.config.errors import UserError
from rayapp.dataset.declared import NO_LIST, TrustList, read_declared
from rayapp.dataset.images import DecodedImage, ImageError, decode, sha256
from rayapp.dataset.manifest import STATUS_FAILED, STATUS_OK
from rayapp.dataset.members import advice, read_image
from rayapp.models.delivered import Deliveries
from rayapp.models.detector_spec import View
from rayapp.models.folder import load_detector
from rayapp.models.preprocessing import Pixels
from rayapp.models.verdicts import logit_fault
from rayapp.predict.deliveries import SeenDelivered, see_delivered, see_whole
from rayapp.predict.score import Scorer, make_scorer
from rayapp.predict.score_result import Logits, Scored
from rayapp.predict.sharing import cores_beside
from rayapp.predict.user_detector import UserDetector, UserScorer
from rayapp.run import row_work
from rayapp.run.concurrency import read_ahead
from rayapp.storage.store import LocalStore, Store
from rayapp.transforms.perturbations import PLAIN, Perturbation
from rayapp.transforms.plans import apply_each

_READERS = 8  # requests under way at once, at least: an object store answers slowly, but many
_LOCAL_FILES = 8  # that one of these threads takes at once: it waits for none of them
_DECODERS = 2  # images at least whose pixels are in memory whole at once


@dataclass(frozen=True)
class ScorerSpec:
    """How a worker makes its scorer."""

    detector: str | UserDetector
    view: View | None = None
    view_size: int | None = None
    bf16: bool = False
    at_once: int | None = None
    compiled: bool = False
    gpus: float = 0.0  # of the worker: of one GPU its share
    maps: bool = False

    def load(self) -> Scorer:
        """The scorer, with its weights."""
        if isinstance(self.detector, UserDetector):
            return UserScorer(self.detector, self.at_once)
        detector = load_detector(self.detector).seen_as(self.view, self.view_size)
        return make_scorer(
            detector.to(self.device),
            bf16=self.bf16,
            at_once=self.at_once,
            compiled=self.compiled,
            gpu_share=min(self.gpus, 1.0),
            maps=self.maps,
        )

    @property
    def device(self) -> str:
        """Where it computes."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Disturbed:
    """A perturbation by which images are disturbed before they are scored."""

    perturbation: Perturbation
    seed: int

    def apply(self, image: DecodedImage, item_id: str, names: Iterable[str]) -> dict[str, Pixels]:
        """The variants of an image; one that it is too small for is absent."""
        plans = self.perturbation.draw((image.height, image.width), item_id, self.seed)
        wanted = {name: plans[name] for name in names if name in plans}
        return dict(apply_each(wanted, image.pixels_HWC))


@dataclass
class PredictRows:
    """Row work: the scorer is made once a worker; a batch is read ahead of its forward passes.

    Args:
        spec: of the scorer.
        root: where the files are.
        threads: of a forward pass on the CPU.
        disturbed: how images are disturbed first.
        side_by_side: batches that may be under way at once, each called from a thread. A GPU
            computes one while the others read and decode; on a CPU each computes for itself.
        deliveries: as which each image is scored too.
    """

    spec: ScorerSpec
    root: Store
    threads: int
    disturbed: Disturbed | None = None
    trust: TrustList = NO_LIST
    side_by_side: int = 1
    deliveries: Deliveries | None = None
    _scorer: Scorer = field(init=False, repr=False)
    _readers: ThreadPoolExecutor = field(init=False, repr=False)
    _decoders: BoundedSemaphore = field(init=False, repr=False)
    _networks: BoundedSemaphore = field(init=False, repr=False)
    _num_readers: int = field(init=False, repr=False)

    def setup(self) -> None:
        """Load the detector."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)
        self._scorer = self.spec.load()
        cores = cores_beside(self.spec.gpus) if self.spec.gpus else 0
        num_decoders = max(_DECODERS, self.threads * self.side_by_side, cores)
        self._num_readers = max(_READERS, num_decoders)
        self._readers = ThreadPoolExecutor(self._num_readers)
        self._decoders = BoundedSemaphore(num_decoders)
        self._networks = BoundedSemaphore(1 if self.spec.gpus else self.side_by_side)

    @property
    def at_once(self) -> int:
        """Views of a forward pass."""
        return self._scorer.at_once

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """A logit a row, or its error; with the time and memory that it took."""
        start = time.perf_counter()
        # Rows of one image are its variants; those with numbers of their own are of as many images.
        by_image = itertools.groupby(batch, lambda row: (row["path"], row.get("row")))
        images = [list(same) for _, same in by_image]
        results: list[row_work.Row] = []
        waiting: list[tuple[row_work.Row, SeenDelivered]] = []
        at_once, depth = 1, 2 * self._num_readers
        if isinstance(self.root, LocalStore):  # few enough that every thread gets some
            at_once = max(1, min(_LOCAL_FILES, len(images) // self._num_readers))
        for seen in read_ahead(self._readers, self._see, images, depth, at_once):
            results += [row for row, views in seen if views is None]
            waiting += [(row, views) for row, views in seen if views is not None]
            if sum(len(views) for _, views in waiting) >= self._scorer.at_once:
                results += self._scored(waiting)
                waiting = []
        results += self._scored(waiting)
        # Of what failed too: that this detector has no score of an image is told by its rows.
        taken = {
            "detector_hash": self._scorer.detector_hash,
            "preprocessing_hash": self._scorer.preprocessing_hash,
            "ms": 1000 * (time.perf_counter() - start) / len(batch) / self.side_by_side,
            "peak_mb": _peak_mb(self.spec.device),
        }
        at = {(row["id"], row.get("row")): row for row in results}
        return [{**at[row["id"], row.get("row")], **taken} for row in batch]

    def _see(self, same: list[row_work.Row]) -> list[tuple[row_work.Row, SeenDelivered | None]]:
        """Rows of one image, each with what the scorer keeps of it; or its error, and None."""
        known: row_work.Row = {}
        row = same[0]
        try:
            # A file of its own, as most are; else inside of a tar or a table, or on the web.
            inside = row.get("container") or row.get("url")
            data = read_image(self.root, row) if inside else self.root.get(row["path"])
            known = {"sha256": sha256(data), "bytes": len(data)}
            if self.disturbed is None:  # else the pixels scored are not the file's
                known |= read_declared(data, self.trust).columns()
            with self._decoders:
                whole = self.disturbed or self.deliveries
                image = decode(data, part=None if whole else self._scorer.looks_at)
                del data
                known |= _facts(image)
                return [
                    (_failed({**one, **known}, "too small for this variant"), None)
                    if views is None
                    else ({**one, **known}, views)
                    for one, views in self._views(same, image, known["sha256"])
                ]
        except ImageError as error:
            message = "; ".join(filter(None, (str(error), advice(same[0]["path"]))))
            return [(_failed({**row, **known}, message), None) for row in same]
        except (OSError, UserError) as error:
            gone = isinstance(error, FileNotFoundError)
            message = "no such file" if gone else f"can't be read: {row_work.format_error(error)}"
            return [(_failed(row, message), None) for row in same]

    def _views(
        self, same: list[row_work.Row], image: DecodedImage, key: str
    ) -> Iterator[tuple[row_work.Row, SeenDelivered | None]]:
        if self.disturbed is None:
            size_HW = image.height, image.width
            if self.deliveries:
                seen = see_delivered(self._scorer, image.pixels_HWC, self.deliveries, key)
            else:
                seen = SeenDelivered(self._scorer.see(image.pixels_HWC, size_HW))
            reason = self._scorer.nothing_in(seen.plain, size_HW)
            yield from (({**row, "reason": reason}, seen) for row in same)
            return
        names = [row["variant"] or PLAIN for row in same]
        item_id = same[0]["id"].removesuffix(f"@{names[0]}")
        variants = self.disturbed.apply(image, item_id, names)
        for row, name in zip(same, names, strict=True):
            if name not in variants:
                yield row, None
                continue
            views = see_whole(self._scorer, variants[name])
            reason = self._scorer.nothing_in(views, variants[name].shape[:2])
            yield {**row, "reason": reason}, SeenDelivered(views)

    def _scored(self, waiting: Sequence[tuple[row_work.Row, SeenDelivered]]) -> list[row_work.Row]:
        if not waiting:
            return []
        seen: list[Any] = [one for _, views in waiting for one in views.each]
        with self._networks:
            scored = self._scorer.scored(seen)
        results, at = [], iter(scored)
        for row, views in waiting:
            several = list(itertools.islice(at, len(views.each)))
            one = several[0]
            if fault := logit_fault(one.logits):
                results.append(_failed({**row, "reason": None}, fault))
                continue
            done = {"status": STATUS_OK, "error": "", "reason": row["reason"] or one.reason}
            results.append({**row, **done, **self._columns(row, one, views.logits_of(several))})
        return results

    def _columns(
        self, row: row_work.Row, one: Scored, delivered: Sequence[Logits]
    ) -> dict[str, Any]:
        """What a score table holds of a scored image; nothing of what there is none."""
        found: dict[str, Any] = {
            "logit": one.logits[0] if len(one.logits) == 1 else None,
            "logits": list(one.logits) if len(one.logits) > 1 else None,
            "delivered_logits": [logits[0] for logits in delivered],
            "part_logits": list(one.parts),
        }
        if one.cells is not None and self.disturbed is None:  # else the picture shown is another
            found["map_logits"] = self._scorer.map_of(one, (row["height"], row["width"]))
        return {name: value for name, value in found.items() if value not in (None, [])}


class StreamedRows(PredictRows):
    """As `PredictRows`, of rows that come without their variant: there is but one."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """A logit a row, or its error."""
        names = self.disturbed.perturbation.variant_names if self.disturbed else (None,)
        return super().batch([{**row, "variant": names[0]} for row in batch])


def _facts(image: DecodedImage) -> row_work.Row:
    names = ("width", "height", "format", "orientation", "note")
    return {name: getattr(image, name) for name in names}


def _failed(row: row_work.Row, error: str) -> row_work.Row:
    return {**row, "status": STATUS_FAILED, "error": error}


def _peak_mb(device: str) -> float:
    """The most memory that this process held so far; on a GPU, of the GPU's."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "linux":  # ru_maxrss counts what a process was forked from as well
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
