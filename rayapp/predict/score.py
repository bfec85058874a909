"""Logits of images under a detector: its views of each, then forward passes of some at a time.

Shapes: K views of an image · H W · C channels · E outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rayapp.models.fused_network import FusedNetwork
from rayapp.models.inference.precision import device_of, without_tf32
from rayapp.models.inference.scoring_network import ReadyTokens, for_scoring
from rayapp.models.nothing_to_judge import nothing_to_judge
from rayapp.models.preprocessing import cut_views, normalise, seen_part
from rayapp.predict.score_maps import bounded, no_fused_map, says_patches, tile_map
from rayapp.predict.score_result import Logits, Matrix, Scored, SeenByEach

if TYPE_CHECKING:
    from rayapp.dataset.images import Box
    from rayapp.models.detector import Detector
    from rayapp.models.preprocessing import Pixels

# Beyond this a larger batch gains nothing on a CPU: maps no longer fit its caches anyway.
_CPU_BATCH_BYTES = 256 << 20
# Layers on tokens gain nothing beyond a few images, and lose a sixth once they leave the caches
# (ViT-B: 8 images against 64, processor time, one thread).
_CPU_TOKEN_BYTES = 24 << 20
_TOKEN_AXES = 3  # N, tokens, C
_MOST_VIEWS = 64
_GPU_SHARE = 0.4


class Seen(Protocol):
    """What a scorer keeps of an image; its length is that of the image's views."""

    def __len__(self) -> int:
        """Views."""


class Scorer(Protocol):
    """What a worker scores with: a network, or a user's own code."""

    detector_hash: str
    preprocessing_hash: str
    at_once: int

    def looks_at(self, size_HW: tuple[int, int]) -> Box:
        """The part of an image of that size by which it judges."""

    def see(self, pixels_HWC: Pixels, size_HW: tuple[int, int]) -> Seen:
        """What it keeps of an image of that size, of what it looks at; called in threads."""

    def nothing_in(self, seen: Any, size_HW: tuple[int, int]) -> str:
        """Why an image of that size, so seen, holds nothing to judge; `` where it does."""

    def scored(self, seen: Sequence[Any]) -> list[Scored]:
        """What is known of images that were seen."""

    def map_of(self, scored: Scored, size_HW: tuple[int, int]) -> Matrix | None:
        """Rows of cells over an image of that size; None where none are kept."""


class NetworkScorer:
    """Scores by a detector's network, made ready for scoring.

    Args:
        detector: on the device where it computes.
        bf16: see for_scoring.
        at_once: views of a forward pass; None: measured, so that memory is used and not exceeded.
        compiled: see for_scoring.
        gpu_share: of the GPU's memory that is this scorer's.
        maps: keep the logits of patches too, where the head is on patches and there is one view.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        bf16: bool,
        at_once: int | None = None,
        compiled: bool = False,
        gpu_share: float = 1.0,
        maps: bool = False,
    ) -> None:
        self.detector_hash = detector.hash()
        self._preprocessing = detector.spec.preprocessing
        self._min_side_px = detector.spec.min_side_px
        self.preprocessing_hash = self._preprocessing.hash
        self.as_cut = self._preprocessing.as_cut
        self._device = device_of(detector.network)
        assert not isinstance(detector.network, FusedNetwork)  # FusedScorer does that
        self._network = for_scoring(detector.network, bf16=bf16, compiled=compiled)
        self._gpu_share = gpu_share
        self._keeps_tiles = self._preprocessing.sees_tiles
        self._keeps_patches = maps and says_patches(detector)
        self.at_once = at_once or self._measured()

    def looks_at(self, size_HW: tuple[int, int]) -> Box:
        """As `seen_part` says."""
        return seen_part(size_HW, self._preprocessing)

    def see(self, pixels_HWC: Pixels, size_HW: tuple[int, int] | None = None) -> Pixels:
        """The detector's views uint8 [K, size, size, C]; the image itself need not be kept."""
        return cut_views(pixels_HWC, self._preprocessing)

    def nothing_in(self, seen: Pixels, size_HW: tuple[int, int]) -> str:
        """As `nothing_to_judge` finds."""
        return nothing_to_judge(seen, size_HW, self._preprocessing, self._min_side_px)

    def score(self, seen: Sequence[Any]) -> list[Logits]:
        """The mean over its views of each image's logits."""
        return [one.logits for one in self.scored(seen)]

    def scored(self, seen: Sequence[Any]) -> list[Scored]:
        """The mean over its views of each image's logits, and those of its tiles or patches."""
        views = torch.from_numpy(np.concatenate(seen))
        passes = [self._forward(part) for part in torch.split(views, self.at_once)]
        logits, cells = (torch.cat([one[at] for one in passes]) for at in (0, 1))
        counts = [len(one) for one in seen]
        found = []
        for part, own in zip(torch.split(logits, counts), torch.split(cells, counts), strict=True):
            mean = tuple(part.double().mean(0).reshape(-1).tolist())
            kept = own[0] if self._keeps_patches else part if self._keeps_tiles else None
            single = len(mean) == 1 and kept is not None
            found.append(Scored(mean, cells=kept.numpy() if single else None))  # type: ignore[union-attr]
        return found

    def map_of(self, scored: Scored, size_HW: tuple[int, int]) -> Matrix | None:
        """Of tiles or patches."""
        if scored.cells is None:
            return None
        if self._keeps_patches:
            return bounded(scored.cells)
        return tile_map(scored.cells, size_HW, self._preprocessing)

    def _forward(self, views_KHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of some views, and those of their patches, or nothing of each."""
        with torch.inference_mode(), without_tf32():
            images = normalise(views_KHWC.to(self._device), self._preprocessing)
            if self._keeps_patches:
                logits, patches = cast(ReadyTokens, self._network).with_patches(images)
                return logits.cpu(), patches.cpu()
            logits = self._network(images)
            return logits.cpu(), torch.empty(len(logits), 0)

    def _measured(self) -> int:
        """As many views as a forward pass may take, by what one view takes."""
        view = torch.zeros(1, *self._preprocessing.shape_HW, 3, dtype=torch.uint8)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            self._forward(view)
            taken = torch.cuda.max_memory_allocated(self._device) - before
            budget = int(torch.cuda.mem_get_info(self._device)[0] * _GPU_SHARE * self._gpu_share)
        else:
            taken, on_tokens = _largest_layer(self._network, lambda: self._forward(view))
            budget = _CPU_TOKEN_BYTES if on_tokens else _CPU_BATCH_BYTES
        return max(1, min(budget // max(taken, 1), _MOST_VIEWS))


def _largest_layer(network: nn.Module, run: Callable[[], object]) -> tuple[int, bool]:
    """Bytes of what the layer with most goes in and comes out of, in one run; whether of tokens."""
    largest, on_tokens = 0, False

    def measure(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest, on_tokens
        tensors = [one for one in (*inputs, output) if isinstance(one, torch.Tensor)]
        taken = sum(one.numel() * one.element_size() for one in tensors)
        if taken > largest:
            largest, on_tokens = taken, all(one.ndim == _TOKEN_AXES for one in tensors)

    hooks = [
        module.register_forward_hook(measure)
        for module in network.modules()
        if not any(module.children())
    ]
    run()
    for hook in hooks:
        hook.remove()
    return largest, on_tokens


# --- fusions: each image is decoded once, and seen by every part in its own way ----


class FusedScorer:
    """Scores by every part of a fusion; arguments are those of NetworkScorer, for each part."""

    def __init__(self, detector: Detector, *, gpu_share: float = 1.0, **options: Any) -> None:
        assert detector.spec.fusion is not None
        self.detector_hash = detector.hash()
        self.preprocessing_hash = detector.spec.preprocessing.hash
        self._fusion = detector.spec.fusion
        parts = detector.parts
        share = gpu_share / len(parts)
        self.parts = [NetworkScorer(one, gpu_share=share, **options) for one in parts]
        self._has_map = not no_fused_map(parts, options.get("maps", False))
        self.at_once = max(part.at_once for part in self.parts)

    def looks_at(self, size_HW: tuple[int, int]) -> Box:
        """What any part looks at."""
        boxes = np.array([part.looks_at(size_HW) for part in self.parts])
        top, left = boxes[:, :2].min(0).tolist()
        bottom, right = boxes[:, 2:].max(0).tolist()
        return top, left, bottom, right

    def see(self, pixels_HWC: Pixels, size_HW: tuple[int, int] | None = None) -> SeenByEach:
        """Each part's views; parts that see alike share them. Without a size the image is whole."""
        above, before = self.looks_at(size_HW)[:2] if size_HW else (0, 0)
        size_HW = size_HW or pixels_HWC.shape[:2]
        found: dict[str, Pixels] = {}
        for part in self.parts:
            if part.as_cut not in found:
                top, left, bottom, right = part.looks_at(size_HW)
                rows, columns = (
                    slice(top - above, bottom - above),
                    slice(left - before, right - before),
                )
                found[part.as_cut] = part.see(pixels_HWC[rows, columns])
        return SeenByEach(tuple(found[part.as_cut] for part in self.parts))

    def nothing_in(self, seen: SeenByEach, size_HW: tuple[int, int]) -> str:
        """As the first part finds, where none finds anything to judge."""
        first = ""
        for part, views in zip(self.parts, seen.views, strict=True):
            if not (found := part.nothing_in(views, size_HW)):
                return ""
            first = first or found
        return first

    def map_of(self, scored: Scored, size_HW: tuple[int, int]) -> Matrix | None:
        """The fused map, where `no_fused_map` has nothing against it: on the grid of any part."""
        return self.parts[0].map_of(scored, size_HW)

    def score(self, seen: Sequence[Any]) -> list[Logits]:
        """Fused logits."""
        return [one.logits for one in self.scored(seen)]

    def scored(self, seen: Sequence[SeenByEach]) -> list[Scored]:
        """Fused logits, each with the parts' and why there is no verdict, if there is none."""
        if not seen:
            return []
        by_part = [
            part.scored([one.views[at] for one in seen]) for at, part in enumerate(self.parts)
        ]
        logits_NP = np.array([[one.logits[0] for one in scored] for scored in by_part]).T
        odds_NP = self._fusion.log_odds(logits_NP).tolist()
        fused_N, reasons = self._fusion.fused(logits_NP), self._fusion.reasons(logits_NP)
        return [
            Scored((float(logit),), reason, tuple(odds), self._fused_cells(of_parts))
            for logit, reason, odds, of_parts in zip(
                fused_N, reasons, odds_NP, zip(*by_part, strict=True), strict=True
            )
        ]

    def _fused_cells(self, of_parts: Sequence[Scored]) -> NDArray[np.float32] | None:
        """Fused logits of an image's cells: their mean over tiles is the fused logit."""
        if not self._has_map:
            return None
        cells = np.stack([cast(NDArray[np.float32], one.cells) for one in of_parts], axis=-1)
        return self._fusion.fused(cells).astype(np.float32)


def make_scorer(detector: Detector, **options: Any) -> NetworkScorer | FusedScorer:
    """What scores by a detector, one alone or a fusion; options are those of NetworkScorer."""
    if detector.spec.fusion:
        return FusedScorer(detector, **options)
    return NetworkScorer(detector, **options)
