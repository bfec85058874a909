import cv2
import numpy as np
import pytest

from rayapp.transforms import ImageHWC


@pytest.fixture(autouse=True)
def _one_thread():
    cv2.setNumThreads(1)


def picture(height: int, width: int, seed: int = 0) -> ImageHWC:
    """Smooth shapes with grain, in colour: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = rng.normal(0, 4, (height, width, 3)).astype(np.float32)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)
