"""Plain facts of an image's pixels, that may tell origins apart before any trace does.

Shapes: H W · C channels red, green, blue.
"""

import cv2
import numpy as np

from rayapp.dataset.images import Pixels

# Immerkær, "Fast noise variance estimation" (1996): blind to edges and slopes.
_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def pixel_facts(pixels_HWC: Pixels) -> dict[str, float]:
    """Mean luma, mean distance of chroma from grey, and noise's standard deviation, in levels."""
    ycc_HWC = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2YCrCb)
    chroma_HWC = ycc_HWC[:, :, 1:].astype(np.float32) - 128
    luma_HW = ycc_HWC[:, :, 0].astype(np.float32)
    edges_HW = cv2.filter2D(luma_HW, -1, _KERNEL)
    return {
        "brightness": float(luma_HW.mean()),
        "chroma": float(np.hypot(chroma_HWC[:, :, 0], chroma_HWC[:, :, 1]).mean()),
        "noise": float(np.abs(edges_HW).mean() * np.sqrt(np.pi / 2) / 6),
    }
