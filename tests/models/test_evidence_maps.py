"""Maps of where a detector sees what: a planted part is found, a uniform score gives a flat map."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayapp.config.errors import UserError
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector
from rayapp.models.detector_spec import Preprocessing
from tests.detectors import tiny_detector
from tests.fuse.fused import fused


class Roughness(nn.Module):
    """In a tiny detector's place: its logit is how rough the pixels are, or a constant."""

    def __init__(self, detector: Detector, factor: float) -> None:
        super().__init__()
        self.backbones = detector.network.backbones
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """So many times the mean square difference of neighbours [N]."""
        return self.factor * (images_NCHW[..., 1:] - images_NCHW[..., :-1]).square().mean((1, 2, 3))


def rough(factor: float = 10.0, **seen: object) -> Detector:
    detector = tiny_detector()
    spec = detector.spec.model_copy(update={"preprocessing": Preprocessing(size=32, **seen)})
    return Detector(Roughness(detector, factor), spec)  # type: ignore[arg-type]


def pasted(seed: int, size_HW: tuple[int, int] = (200, 300)) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture with a rough part of a quarter of its area, and where that is."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size_HW, bool)
    top, left = (int(rng.integers(0, side // 2)) for side in size_HW)
    mask[top : top + size_HW[0] // 2, left : left + size_HW[1] // 2] = True
    noise = rng.integers(-20, 21, (*size_HW, 3)) * mask[..., None]
    return (128 + noise).astype(np.uint8), mask


def map_auc(detector: Detector, pixels_HWC: np.ndarray, mask_HW: np.ndarray) -> float:
    """How well the map orders pixels by whether they are of the planted part."""
    found = detector.evidence(pixels_HWC).logits_G
    at = (
        np.arange(side) * cells // side
        for side, cells in zip(mask_HW.shape, found.shape, strict=True)
    )
    return roc_auc(mask_HW.ravel().astype(int), found[np.ix_(*at)].ravel()).value or 0.0


@pytest.mark.parametrize("view", ["centre", "tiles", "resize"])
def test_a_planted_part_is_found(view: str) -> None:
    assert np.mean([map_auc(rough(view=view), *pasted(seed)) for seed in range(6)]) > 0.9


def test_a_uniform_score_gives_a_flat_map() -> None:
    pixels, _ = pasted(0)
    flat = rough(0.0).evidence(pixels).logits_G
    assert flat.shape == (32, 48)
    assert np.ptp(flat) == 0


@pytest.mark.parametrize("size_HW", [(32, 32), (20, 90), (33, 700), (1, 1), (640, 480)])
def test_a_map_covers_pictures_of_every_size(size_HW: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size_HW, 3), dtype=np.uint8)
    found = rough().evidence(pixels)
    assert np.isfinite(found.logits_G).all()
    assert (found.logits_G > 0).all() or size_HW == (1, 1)
    assert max(found.logits_G.shape) <= 48
    if size_HW == (32, 32):  # seen once, as a whole
        assert found.logits_G.shape == (1, 1)
        assert found.logits_G[0, 0] == pytest.approx(rough().logits([pixels])[0], rel=1e-5)


def test_probabilities_follow_the_logits() -> None:
    detector = rough()
    pixels, _ = pasted(1)
    found = detector.evidence(pixels)
    p = found.probabilities(detector)
    np.testing.assert_allclose(p, torch.sigmoid(torch.from_numpy(found.logits_G)), rtol=1e-5)


def test_a_detector_of_classes_has_no_map() -> None:
    detector = rough()
    head = detector.spec.architecture.head.model_copy(update={"num_outputs": 3})
    architecture = detector.spec.architecture.model_copy(update={"head": head})
    several = Detector(
        detector.network, detector.spec.model_copy(update={"architecture": architecture})
    )
    with pytest.raises(UserError, match="one a class"):
        several.evidence(pasted(0)[0])


def test_patches_of_a_head_on_tokens_make_the_map() -> None:
    from tests.models.test_token_pool import _detector

    detector = _detector(pool="mean", layers=(0,))
    image = np.full((96, 128, 3), 128, np.uint8)
    changed = image.copy()
    changed[64:, 96:] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    apart, before = detector.evidence(changed), detector.evidence(image)
    assert apart.by == "patches"
    moved = np.abs(apart.logits_G - before.logits_G)
    mask = np.zeros(moved.shape, bool)
    mask[moved.shape[0] * 2 // 3 :, moved.shape[1] * 3 // 4 :] = True
    assert roc_auc(mask.ravel().astype(int), moved.ravel()).value > 0.95  # type: ignore[operator]


def test_a_fusions_map_is_the_fused_map_of_its_parts() -> None:
    parts = [tiny_detector(0), tiny_detector(1, size=48).seen_as("resize")]
    whole = fused(parts, [(2.0, 0.5, 0.7), (1.5, -0.25, 0.2)], bias=0.3)
    pixels, _ = pasted(2)
    one, two = (part.evidence(pixels).logits_G.astype(float) for part in parts)
    expected = 0.3 + 0.7 * (2.0 * one + 0.5) + 0.2 * (1.5 * two - 0.25)
    found = whole.evidence(pixels)
    np.testing.assert_allclose(found.logits_G, expected, atol=1e-5)
    assert found.by == "windows"
    seen_whole = pixels[:32, :32]  # no larger than a window: there is no map of it
    parts = [tiny_detector(0), tiny_detector(1)]
    assert fused(parts, [(1.0, 0.0, 0.5)] * 2).evidence(seen_whole).logits_G.shape == (1, 1)
