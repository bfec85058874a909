"""Logits of a fold's images by a detector that is still being trained.

Shapes: N images · C features · V variants · K views.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayapp.config.errors import JobFailed
from rayapp.dataset.images import ImageError
from rayapp.models.encoder import Network
from rayapp.models.inference.precision import without_tf32
from rayapp.models.preprocessing import cut_views, normalise
from rayapp.train.data.crops import open_source
from rayapp.train.data.items import TrainItem
from rayapp.train.training_job import Job, RankContext
from rayapp.transforms.operations import ImageHWC, Window
from rayapp.transforms.perturbations import Perturbation
from rayapp.transforms.plans import apply
from rayapp.tune.trials.contract import TrialContext

_BATCH = 16  # images of a forward pass
_PROBED = 128  # images of each class that a probe is fitted to, at most
_RIDGE = 1e-2
Floats = NDArray[np.float64]


@dataclass
class Scorer:
    """Scores images with a network; counts how long its forward passes take."""

    network: Network
    job: Job
    rank_context: RankContext
    trial_context: TrialContext
    seconds: float = 0.0
    images: int = 0
    _readers: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.network.eval()
        readers = max(1, self.job.settings.loader_processes)
        self._readers = ThreadPoolExecutor(readers)

    @property
    def images_per_s(self) -> float:
        """Images of the detector's view through the network in a second."""
        return self.images / max(self.seconds, 1e-9)

    def logits(self, items: Sequence[TrainItem]) -> Floats:
        """Logit of each image [N].

        Raises:
            JobFailed: an image can't be read.
        """
        return self._scored(items, features=False)[:, 0]

    def features(self, items: Sequence[TrainItem]) -> Floats:
        """Pooled features of each image [N, C]."""
        return self._scored(items, features=True)

    def robustness(
        self, items: Sequence[TrainItem], perturbation: Perturbation
    ) -> dict[str, Floats]:
        """Logits [N] by variant of a perturbation; NaN where an image is too small for it."""
        found = {name: np.full(len(items), np.nan) for name in perturbation.variant_names}
        for at, pixels_HWC in enumerate(self._pixels(items)):
            size_HW = pixels_HWC.shape[:2]
            plans = perturbation.draw(size_HW, items[at].id, self.job.settings.seed)
            changed = [apply(plan, pixels_HWC) for plan in plans.values()]
            if changed:
                logits_V = self._forward([self._views(one) for one in changed], False)[:, 0]
                for name, logit in zip(plans, logits_V, strict=True):
                    found[name][at] = logit
        return found

    def _scored(self, items: Sequence[TrainItem], features: bool) -> Floats:
        outputs, pending = [], []
        for pixels_HWC in self._pixels(items):
            pending.append(self._views(pixels_HWC))
            if len(pending) == _BATCH:
                outputs.append(self._forward(pending, features))
                pending = []
        if pending:
            outputs.append(self._forward(pending, features))
        return np.concatenate(outputs)

    def _pixels(self, items: Sequence[TrainItem]) -> Iterator[ImageHWC]:
        """Every image, read ahead by a batch."""
        source = open_source(self.job.settings.root)

        def read(item: TrainItem) -> ImageHWC:
            try:
                picture = source.open(item)
                return picture.read(Window(0, 0, *picture.size_HW))
            except (ImageError, OSError) as error:
                raise JobFailed(f"{item.id} can't be read: {error}") from None

        for start in range(0, len(items), _BATCH):
            self.trial_context.check_time()
            yield from self._readers.map(read, items[start : start + _BATCH])

    def _views(self, pixels_HWC: ImageHWC) -> Tensor:
        return torch.from_numpy(cut_views(pixels_HWC, self.job.spec.preprocessing))

    def _forward(self, views: Sequence[Tensor], features: bool) -> Floats:
        """The mean over each image's views: float64 [N, 1] or [N, C]."""
        started = time.monotonic()
        inputs = normalise(
            torch.cat(list(views)).to(self.rank_context.device), self.job.spec.preprocessing
        )
        if self.job.settings.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), without_tf32():
            outputs = self.network.features(inputs) if features else self.network(inputs)
            outputs = outputs.float().reshape(len(inputs), -1).cpu().double()
        self.seconds += time.monotonic() - started
        self.images += len(views)
        parts = torch.split(outputs, [len(one) for one in views])
        return np.asarray(torch.stack([part.mean(0) for part in parts]).numpy())


def probe_logits(scorer: Scorer, known: Sequence[TrainItem], items: Sequence[TrainItem]) -> Floats:
    """Logits [N] by a linear probe of the features: what a head could do that is not there yet.

    Fisher's linear discriminant, its covariance shrunk by a share of its trace, fitted to at most
    128 images of each class that were trained on.
    """
    chosen = [
        item
        for target in (0, 1)
        for item in _spread([item for item in known if item.target == target])
    ]
    targets = np.array([item.target for item in chosen])
    x = scorer.features(chosen)
    means = [x[targets == target].mean(0) for target in (0, 1)]
    centred = x - np.stack(means)[targets]
    covariance = centred.T @ centred / len(x)
    covariance += np.eye(len(covariance)) * (
        _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
    )
    weights = np.linalg.solve(covariance, means[1] - means[0])
    bias = -weights @ (means[0] + means[1]) / 2
    return np.asarray(scorer.features(items) @ weights + bias)


def _spread(items: Sequence[TrainItem]) -> list[TrainItem]:
    picked = np.linspace(0, len(items) - 1, min(_PROBED, len(items))).astype(int)
    return [items[index] for index in picked]
