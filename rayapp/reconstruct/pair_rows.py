"""The work on one real image: its cut, and its partner, written side by side."""

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset.images import pixel_sha256, pixels_of, sha256
from rayapp.models.autoencoders.autoencoder_spec import StoredAutoencoder
from rayapp.models.autoencoders.round_trip import Reconstructor, open_autoencoder
from rayapp.reconstruct.alignment import FileHistory, read_history
from rayapp.reconstruct.pair_draws import PairDraws, Strength
from rayapp.run import row_work
from rayapp.storage.store import Store
from rayapp.transforms.codecs import encode_lossless
from rayapp.transforms.operations import ImageHWC
from rayapp.transforms.perturbations import PLAIN, Perturbation
from rayapp.transforms.plans import Plan, Step, apply

Format = Literal["webp", "png"]
REAL, PARTNER = "real", "reconstructed"
_READ_AHEAD = 1  # threads that read and write while others compute


@dataclass(frozen=True)
class Pair:
    """Both images of a pair, and the plans that made them of the image and of its rendering."""

    real_HWC: ImageHWC
    partner_HWC: ImageHWC
    real_plan: Plan
    partner_plan: Plan
    strength: Strength


@dataclass
class PairRows:
    """Row work: one real image in, a pair out; a pure function of bytes and id.

    `at_once`: how many are rendered at a time by this worker, each by one thread.
    """

    root: Store
    output: Store
    stored: StoredAutoencoder
    draws: PairDraws
    align: bool
    perturbation: Perturbation | None
    format: Format
    device: str = "cpu"
    at_once: int = 1
    _reconstructor: Reconstructor | None = field(default=None, init=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)
    _rendering: threading.Semaphore | None = field(default=None, init=False)

    def setup(self) -> None:
        """Open the autoencoder; one thread of torch and OpenCV for each image."""
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        torch.backends.cudnn.deterministic = True
        self._reconstructor = open_autoencoder(self.stored, self.device)
        self._threads = ThreadPoolExecutor(self.at_once + _READ_AHEAD)
        self._rendering = threading.Semaphore(self.at_once)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The pair of each image, written under its names."""
        return row_work.each(batch, self._one, self._threads)

    def _one(self, row: row_work.Row) -> row_work.Row:
        try:
            data = self.root.get(row["path"])
        except FileNotFoundError:
            raise UserError(f"{self.root.uri(row['path'])}: no such file") from None
        history = read_history(data)
        if self.align and not history.can_be_given:
            return _left_out(data, f"{history.description}: no partner can be made alike")
        pair = self._pair(data, row["id"], history)
        if np.array_equal(pair.real_HWC, pair.partner_HWC):  # it would stand under both labels
            return _left_out(data, "no trace is left: the partner is the image itself")
        made = (
            (REAL, pair.real_HWC, pair.real_plan),
            (PARTNER, pair.partner_HWC, pair.partner_plan),
        )
        window = next(dict(step.params) for step in pair.real_plan.steps if step.op == "crop")
        return {
            "source_sha256": sha256(data),
            "crop": [int(window[name]) for name in ("top", "left", "height", "width")],
            "strength": pair.strength.share,
            "latent_noise": pair.strength.noise.share,
            "alignment": history.description if self.align else "not aligned",
            "outputs": [self._written(row["path"], *one) for one in made],
        }

    def pair(self, data: bytes, item_id: str) -> Pair:
        """The pair of one image file."""
        return self._pair(data, item_id, read_history(data))

    def _pair(self, data: bytes, item_id: str, history: FileHistory) -> Pair:
        assert self._reconstructor is not None, "setup() comes first"
        assert self._rendering is not None
        seen_HWC = pixels_of(data)
        stored_HWC = apply(Plan(history.to_stored), seen_HWC)
        height, width = stored_HWC.shape[:2]
        window = self.draws.window(
            (height, width), history.unit_HW, self._reconstructor.multiple, item_id
        )
        cut = Step.of("crop", **window._asdict())
        real_plan = Plan((*history.to_stored, cut, *history.to_seen))
        real_HWC = apply(Plan((cut, *history.to_seen)), stored_HWC)
        del seen_HWC, stored_HWC  # a large image is many times its cut
        strength = self.draws.strength(item_id)
        with self._rendering:
            rendered_HWC = self._reconstructor(real_HWC, strength.noise)
        is_grey = bool((real_HWC == real_HWC[:, :, :1]).all())
        steps: tuple[Step, ...] = (Step.of("grayscale"),) if is_grey else ()
        steps += strength.mix + (history.recompression if self.align else ())
        partner_HWC = apply(Plan(steps), rendered_HWC, real_HWC)
        both = self._both_alike(real_HWC, item_id)
        return Pair(
            apply(both, real_HWC),
            apply(both, partner_HWC),
            Plan(real_plan.steps + both.steps),
            Plan(steps + both.steps),
            strength,
        )

    def _both_alike(self, real_HWC: ImageHWC, item_id: str) -> Plan:
        if self.perturbation is None:
            return Plan()
        height, width = real_HWC.shape[:2]
        plans = self.perturbation.draw((height, width), item_id, self.draws.seed)
        if PLAIN not in plans:
            raise UserError(
                f"{height}×{width} px are too small for perturbation {self.perturbation.name}"
            )
        return plans[PLAIN]

    def _written(self, path: str, kind: str, pixels_HWC: ImageHWC, plan: Plan) -> row_work.Row:
        file = encode_lossless(pixels_HWC) if self.format == "webp" else _png(pixels_HWC)
        key = output_path(path, kind, self.format)
        self.output.put(key, file)
        return {
            "kind": kind,
            "path": key,
            "sha256": sha256(file),
            "pixel_sha256": pixel_sha256(pixels_HWC),
            "bytes": len(file),
            "width": pixels_HWC.shape[1],
            "height": pixels_HWC.shape[0],
            "plan": plan.to_json(),
        }


@dataclass
class DrawnPairRows:
    """Row work: each row by the one of several works that its column `drawn` numbers."""

    works: Sequence[PairRows]

    def setup(self) -> None:
        """Open every autoencoder."""
        for work in self.works:
            work.setup()

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The pair of each image, in order."""
        done: dict[int, row_work.Row] = {}
        for number, work in enumerate(self.works):
            mine = [at for at, row in enumerate(batch) if row["drawn"] == number]
            done |= zip(mine, work.batch([batch[at] for at in mine]), strict=True)
        return [done[at] for at in range(len(batch))]


def _left_out(data: bytes, why: str) -> row_work.Row:
    return {"source_sha256": sha256(data), "alignment": why, "outputs": []}


def output_path(path: str, kind: str, format: Format) -> str:
    """`real/a/b.jpg.webp`: the image's own path, its ending too, so that no two are one."""
    return f"{kind}/{path}.{format}"


def _png(pixels_HWC: ImageHWC) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG")
    return sink.getvalue()
