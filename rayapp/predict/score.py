"""Logits of encoded images: decode, cut the detector's views, one forward pass a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rayapp.images import DecodedImage, ImageError, decode
from rayapp.models.detector import Detector
from rayapp.models.preprocessing import cut_views, normalise


@dataclass(frozen=True)
class Scored:
    """One image's logit (or one a class) and what the file was; or `error`, and no logit."""

    logit: float | None = None
    logits: tuple[float, ...] | None = None
    image: DecodedImage | None = None
    error: str = ""


def score(detector: Detector, files: Sequence[bytes | ImageError], max_views: int) -> list[Scored]:
    """One result a file, in order; a file that can't be decoded is named and the others go on.

    Args:
        detector: with a single logit (origin), or one a class.
        files: encoded images, or why one could not be read.
        max_views: views in one forward pass.
    """
    results: list[Scored] = []
    views: list[np.ndarray] = []
    for file in files:
        try:
            if isinstance(file, ImageError):
                raise file
            image = decode(file)
            views.append(cut_views(image.pixels_HWC, detector.spec.preprocessing))
            results.append(Scored(image=image))
        except ImageError as error:
            results.append(Scored(error=str(error)))
    if not views:
        return results
    logits = iter(_mean_logits(detector, views, max_views))
    return [r if r.error else replace(r, **next(logits)) for r in results]


def _mean_logits(
    detector: Detector, views: Sequence[np.ndarray], max_views: int
) -> list[dict[str, Any]]:
    """The mean logit, or logits, of each image's views [K, H, W, C]."""
    device = next(detector.network.parameters()).device
    stacked = torch.from_numpy(np.concatenate(views))
    with torch.inference_mode():
        logits = torch.cat(
            [
                detector.network(
                    normalise(part.to(device), detector.spec.preprocessing).contiguous(
                        memory_format=torch.channels_last
                    )
                )
                for part in torch.split(stacked, max_views)
            ]
        )
    counts = [len(one) for one in views]
    means = [part.double().mean(0) for part in torch.split(logits.cpu(), counts)]
    if logits.ndim == 1:
        return [{"logit": float(mean)} for mean in means]
    return [{"logits": tuple(mean.tolist())} for mean in means]
