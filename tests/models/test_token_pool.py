from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.folder import load_detector, save_detector
from rayapp.models.inference.scoring_network import for_scoring
from rayapp.models.networks import build_network
from rayapp.models.token_pool import TokenPool
from rayapp.storage.uris import open_store
from tests.models.vits import FAMILIES, IMAGES, architecture, made


def _reference(patches_NPF: Tensor, query_F: Tensor) -> Tensor:
    """Attention pooling, one image and one patch at a time."""
    pooled = []
    for patches_PF in patches_NPF:
        scores = [float(sum(a * b for a, b in zip(patch, query_F, strict=True)))
                  / len(query_F) ** 0.5 for patch in patches_PF]  # fmt: skip
        weights = [np.exp(s - max(scores)) for s in scores]
        mean = sum(w * patch for w, patch in zip(weights, patches_PF, strict=True)) / sum(weights)
        pooled.append(mean)
    return torch.stack(pooled)


def test_attention_is_the_plain_reference() -> None:
    draws = torch.Generator().manual_seed(3)
    pool = TokenPool("attention", (0, -1), 6).double()
    tokens = torch.randn(4, 9, 12, generator=draws, dtype=torch.float64)
    prefix = torch.randn(4, 12, generator=draws, dtype=torch.float64)
    assert torch.allclose(pool(prefix, tokens), tokens.mean(1), atol=1e-12)  # where it starts
    with torch.no_grad():
        pool.query.copy_(3 * torch.randn(12, generator=draws))
        expected = _reference(tokens, pool.query)
        assert float((pool(prefix, tokens) - expected).abs().max()) < 1e-10
        assert torch.allclose(pool.attention(tokens).sum(1), torch.ones(4, dtype=torch.float64))
    assert float((expected - tokens.mean(1)).abs().max()) > 0.1


@pytest.mark.parametrize("backbone", FAMILIES)
def test_tokens_of_the_last_block_are_the_backbones_own(backbone: str) -> None:
    network = made(backbone, pool="mean")
    backbone_ = network.encoder.backbone
    with torch.no_grad():
        class_NF, patches_NHWF = backbone_.tokens(IMAGES, (-1,))
        final = backbone_.model.forward_features(IMAGES)  # type: ignore[operator]
    prefix = backbone_.model.num_prefix_tokens
    torch.testing.assert_close(patches_NHWF.flatten(1, 2), final[:, prefix:])
    if prefix:
        torch.testing.assert_close(class_NF, final[:, 0])


@pytest.mark.parametrize("pool", ["cls", "mean", "attention"])
def test_layers_stand_side_by_side(pool: str) -> None:
    network = made(pool=pool, layers=(0, -1))
    assert network.num_features == 32
    class_NF, patches_NHWF = network.encoder.backbone.tokens(IMAGES, (0, 2))
    first, last = (network.encoder.backbone.tokens(IMAGES, (b,)) for b in (0, 2))
    torch.testing.assert_close(class_NF, torch.cat([first[0], last[0]], 1))
    torch.testing.assert_close(patches_NHWF, torch.cat([first[1], last[1]], 3))
    expected = network.pool(class_NF, patches_NHWF.flatten(1, 2))  # type: ignore[misc]
    torch.testing.assert_close(network.features(IMAGES), expected)
    torch.testing.assert_close(network(IMAGES), network.head(expected))


def _detector(**head: object) -> Detector:
    spec = DetectorSpec(
        architecture=architecture(**head),
        strides=(network := made(**head)).encoder.backbone.strides(),
        preprocessing=Preprocessing(view="centre", size=32),
    )
    return Detector(network, spec)


def _pictures() -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [draws.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]


def test_patches_of_a_linear_head_add_up_to_the_logit() -> None:
    """Of a linear head the logit is the mean of the patches', weighted by their attention."""
    detector = _detector(pool="attention", layers=(1, -1))
    logits, attention = (f(_pictures()) for f in (detector.patch_logits, detector.patch_attention))
    assert logits.shape == attention.shape == (3, 4, 4)
    assert attention.std() > 1e-3
    np.testing.assert_allclose(attention.sum((1, 2)), 1, atol=1e-6)
    expected = detector.logits(_pictures())
    np.testing.assert_allclose((logits * attention).sum((1, 2)), expected, atol=1e-5)


def test_patches_lie_where_they_are_in_the_image() -> None:
    """A change of one patch's pixels is felt most where that patch lies: rows first."""
    detector = _detector(pool="mean", layers=(0,))
    image = np.full((32, 32, 3), 128, np.uint8)
    changed = image.copy()
    changed[8:16, 24:32] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    apart = np.abs(np.subtract(*detector.patch_logits([image, changed])))
    assert np.unravel_index(apart.argmax(), (4, 4)) == (1, 3)


def test_several_classes_have_a_map_each() -> None:
    network = made(pool="mean", num_outputs=3)
    assert network.patch_logits(IMAGES).shape == (5, 4, 4, 3)


@pytest.mark.parametrize("pool", ["cls", "mean", "attention"])
def test_saved_loaded_and_made_fast_it_is_the_same(tmp_path: Path, pool: str) -> None:
    detector = _detector(pool=pool, layers=(1, -1))
    digest = save_detector(detector, open_store(tmp_path / "d"))
    loaded = load_detector(tmp_path / "d")
    assert loaded.hash() == digest
    np.testing.assert_array_equal(loaded.logits(_pictures()), detector.logits(_pictures()))
    with torch.inference_mode():
        for bf16, atol in ((False, 1e-5), (True, 0.05)):
            fast = for_scoring(detector.network, bf16=bf16)(IMAGES)
            torch.testing.assert_close(fast, detector.network(IMAGES), atol=atol, rtol=0.0)


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        ("vit_base_patch16_siglip_224", {"pool": "cls"}, "no class token"),
        ("vit_tiny_patch16_224", {"pool": "mean", "layers": [3]}, r"\[3\]: the backbone has 3"),
        ("resnet10t", {"pool": "mean"}, "wants a ViT"),
    ],
)
def test_what_cannot_be_pooled_is_refused_at_once(
    backbone: str, head: dict[str, object], message: str
) -> None:
    described = architecture(backbone, **head)
    if backbone == "resnet10t":
        described = described.model_copy(update={"options": {}})
    with pytest.raises(UserError, match=message):
        build_network(described)


def test_patches_want_a_head_on_patches_and_one_view() -> None:
    for head in ({}, {"pool": "cls"}):
        with pytest.raises(UserError, match="not on patches"):
            _detector(**head).patch_logits(_pictures())
    with pytest.raises(UserError, match="one view"):
        _detector(pool="mean").seen_as("tiles").patch_logits(_pictures())
