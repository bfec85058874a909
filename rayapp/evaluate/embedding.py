"""Features of some test images in two dimensions: t-SNE of the backbone's features."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from pydantic import Field

from rayapp.config.paths import Uri
from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings
from rayapp.models.detector import Detector
from rayapp.models.folder import load_detector
from rayapp.run import row_work
from rayapp.storage.store import Store

_LEAST = 8


class EmbedSettings(ScoringSettings, JobSettings):
    """Put the features of some images on a plane."""

    detector: Uri = Field(description="folder or bucket prefix of the detector")
    root: Uri = Field(description="where the paths of the images start")
    num_images: int = Field(500, ge=1, description="images at most, drawn by the seed")
    seed: int = Field(42, description="of the draw and of t-SNE")


def flattened(features_NC: np.ndarray, seed: int) -> np.ndarray:
    """Two dimensions [N, 2] by scikit-learn's t-SNE, started from the principal components."""
    from sklearn.manifold import TSNE

    if len(features_NC) < _LEAST:
        return np.zeros((len(features_NC), 2), np.float32)
    perplexity = min(30.0, (len(features_NC) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(features_NC), dtype=np.float32)


class FeatureRows:
    """Row work: the backbone's features of each image."""

    def __init__(self, detector_uri: str, root: Store, settings: EmbedSettings) -> None:
        self.detector_uri, self.root = detector_uri, root
        self.threads, self.device = settings.threads, "cuda" if settings.gpus_per_worker else "cpu"
        self._detector: Detector | None = None

    def setup(self) -> None:
        """Load the detector."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)
        self._detector = load_detector(self.detector_uri, device=self.device)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Features a row, or why there are none."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        assert self._detector is not None
        return {"features": self._detector.features([self.root.get(row["path"])])[0].tolist()}
