"""Large linear layers are oneDNN's on the CPU, in whatever way a detector is asked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.inference.linear_layers import OneDnnLinear, inference
from rayapp.models.inference.scoring_network import for_scoring
from rayapp.models.networks import build_network
from tests.fuse.fused import fused
from tests.models.inference.test_fused_layers import images
from tests.models.reference import unsettle
from tests.pictures import photographed

ONEDNN = "mkldnn::_linear_pointwise"


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("vit_tiny_patch16_224", 224),
        ("swin_tiny_patch4_window7_224", 224),
        ("swinv2_cr_tiny_224", 224),  # its layers are asked for their weights
        ("beit_base_patch16_224", 224),  # its attention multiplies by the weight itself
    ],
)
def test_large_linear_layers_of_a_copy_are_onednns(backbone: str, size: int) -> None:
    torch.manual_seed(0)
    network = build_network(Architecture(backbone=backbone, head=HeadSettings(hidden=8))).eval()
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            unsettle(module)
    pixels = images(size, 1)
    with torch.inference_mode():
        wanted = network(pixels)
        ready = for_scoring(network, bf16=False)
        exact = ready(pixels)
    assert sum(isinstance(module, OneDnnLinear) for module in ready.modules()) >= 10
    assert not any(isinstance(module, OneDnnLinear) for module in network.modules())
    assert (exact - wanted).abs().max() <= 1e-5 * max(1, float(wanted.abs().max()))
    own = {tensor.data_ptr() for tensor in network.parameters()}
    assert {tensor.data_ptr() for tensor in ready.parameters()} <= own  # no second copy


def on_patches() -> Detector:
    """A ViT with a head on the mean of its patches; its blocks' linear layers are large."""
    torch.manual_seed(0)
    head = HeadSettings(hidden=0, norm="none", pool="mean")
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 1}
    architecture = Architecture(backbone="vit_small_patch16_224", options=options, head=head)
    network = build_network(architecture).eval()
    strides = network.encoder.backbone.strides()
    spec = DetectorSpec(
        architecture=architecture, strides=strides, preprocessing=Preprocessing(size=32)
    )
    return Detector(network, spec)


def operators(call: Callable[[], object]) -> set[str]:
    """What torch computes in a call, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return {event.key for event in profile.key_averages()}


PICTURE = photographed(48, 64)


@pytest.mark.parametrize(
    "asked",
    [
        lambda detector: detector.logits([PICTURE]),
        lambda detector: detector.judge([PICTURE]),
        lambda detector: detector.judge([PICTURE], stability="web"),
        lambda detector: detector.features([PICTURE]),
        lambda detector: detector.patch_logits([PICTURE]),
        lambda detector: detector.evidence(PICTURE),
        lambda detector: fused([detector] * 2, [(1.0, 0.0, 0.5)] * 2).logits([PICTURE]),
        lambda detector: fused([detector] * 2, [(1.0, 0.0, 0.5)] * 2).evidence(PICTURE),
    ],
)
def test_a_detectors_answers_are_computed_by_onednn(asked: Callable[[Detector], object]) -> None:
    detector = on_patches()
    assert ONEDNN in operators(lambda: asked(detector))
    assert not any(isinstance(module, OneDnnLinear) for module in detector.network.modules())


def test_for_a_call_weights_are_shared_and_the_answers_the_same() -> None:
    detector = on_patches()
    network: Any = detector.network
    pixels = images(32, 3)
    with inference(network) as faster:
        assert torch.is_inference_mode_enabled()
        replaced = [one for one in faster.modules() if isinstance(one, OneDnnLinear)]
        own = {tensor.data_ptr() for tensor in network.parameters()}
        assert len(replaced) == 4  # of one block
        assert {one.weight.data_ptr() for one in replaced} <= own
        for name in ("__call__", "features", "patch_logits"):
            wanted, found = (getattr(one, name)(pixels) for one in (network, faster))
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_changed_weights_count_at_once() -> None:
    detector = on_patches()
    before = detector.logits([PICTURE])
    with torch.no_grad():
        for parameter in detector.network.parameters():
            parameter.mul_(1.5)
    after = detector.logits([PICTURE])
    assert abs(after - before).max() > 1e-3
    with torch.inference_mode():
        wanted = detector.network(detector.preprocess(PICTURE))
    np.testing.assert_allclose(after, wanted, atol=1e-5)


def test_a_layer_that_is_looked_at_stays_as_it_is() -> None:
    detector, seen = on_patches(), []
    layer: nn.Module = detector.network.get_submodule("encoder.backbone.model.blocks.0.mlp.fc1")
    layer.register_forward_hook(lambda *given: seen.append(given[2]))
    detector.logits([PICTURE])
    assert len(seen) == 1


def test_another_precision_is_left_alone() -> None:
    detector = on_patches()
    with torch.autocast("cpu", torch.bfloat16), inference(detector.network) as network:
        assert network is detector.network
    detector.network.double()
    with inference(detector.network) as network:
        assert network is detector.network
