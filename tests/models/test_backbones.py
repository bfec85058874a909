from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from rayapp.config.defaults import RESNET50_NODOWN
from rayapp.config.errors import UserError
from rayapp.models.backbones import HIGHPASS_SMALL, create_backbone, normalisation
from tests.doubles.server import Reply, Server


class PlainBottleneck(nn.Module):
    """Residual bottleneck of a ResNet, its stride on the 3×3 convolution (torchvision's layout)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential()
        if before != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class PlainNoDown(nn.Module):
    """ResNet-50 from torch's layers only, with the strides of nodown or others."""

    def __init__(self, stem_stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stem_stride, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stem_stride, 1)
        before = 64
        for layer, (depth, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], 1):
            blocks = []
            for block in range(depth):
                stride = 2 if block == 0 and layer > 1 else 1
                blocks.append(PlainBottleneck(before, width, stride))
                before = 4 * width
            setattr(self, f"layer{layer}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        tap = self.layer2(self.layer1(x))
        return tap, self.layer4(self.layer3(tap)).mean((2, 3))


@pytest.fixture(scope="module")
def nodown() -> nn.Module:
    torch.manual_seed(0)
    backbone = create_backbone(RESNET50_NODOWN, tap_depths=(0.5,)).eval()
    for name, buffer in backbone.named_buffers():  # else BatchNorm would do nothing
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    for name, parameter in backbone.named_parameters():
        if "bn" in name and name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return backbone


def test_nodown_is_a_plain_resnet50_with_the_early_strides_at_one(nodown) -> None:
    images = torch.rand(1, 3, 24, 40)
    with torch.inference_mode():
        (tap,), features = nodown(images)
        for stem_stride in (1, 2):
            plain = PlainNoDown(stem_stride).eval()
            plain.load_state_dict(nodown.model.state_dict())  # loads whatever the strides
            expected_tap, expected = plain(images)
            difference = float((features - expected).norm() / expected.norm())
            assert difference <= 1e-5 if stem_stride == 1 else difference > 1e-2
            if stem_stride == 1:
                assert tap.shape == (1, 512, 12, 20)
                assert float((tap - expected_tap).norm() / expected_tap.norm()) <= 1e-5
        torch.testing.assert_close(nodown.features(images), features)


def test_strides_tell_nodown_from_the_ordinary_resnet50(nodown) -> None:
    ordinary = create_backbone("resnet50.tv2_in1k").strides()
    assert ordinary["conv1"] == ordinary["maxpool"] == (2, 2)
    assert {k: v for k, v in ordinary.items() if k not in ("conv1", "maxpool")} == nodown.strides()
    assert sorted(nodown.strides()) == [
        f"layer{layer}.0.{part}" for layer in (2, 3, 4) for part in ("conv2", "downsample.0")
    ]
    reductions = [info["reduction"] for info in nodown.model.feature_info]
    assert reductions == [1, 1, 2, 4, 8]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {}),
        ("test_convnext", {}),
        ("test_efficientnet", {}),
        ("test_vit", {"img_size": 64}),
        (HIGHPASS_SMALL, {"width": 4, "depth": 5}),
    ],
)
def test_any_family_gives_taps_and_the_features_of_its_own_forward(name: str, options) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name, tap_depths=(0.0, 0.6), options=options).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps, features = backbone(images)
        own = backbone.model(images) if name != HIGHPASS_SMALL else features
    assert [tap.shape[1] for tap in maps] == backbone.tap_channels
    assert all(tap.ndim == 4 for tap in maps)
    assert features.shape == (2, backbone.num_features)
    torch.testing.assert_close(features, own)
    torch.testing.assert_close(backbone.features(images), features)
    mean, std = normalisation(name)
    assert len(mean) == len(std) == 3


def test_highpass_sees_no_brightness_and_any_size() -> None:
    torch.manual_seed(0)
    backbone = create_backbone(HIGHPASS_SMALL).eval()
    images = torch.rand(2, 3, 33, 47) * 0.5
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone.features(images + 0.25), backbone.features(images), rtol=1e-3, atol=1e-5
        )
        assert not torch.allclose(backbone.features(images * 0.5), backbone.features(images))


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("resnet51", {}, "no backbone 'resnet51'"),
        ("local-dir:/somewhere", {}, "no backbone"),
        ("resnet50.nope", {}, "nope"),
        ("test_resnet", {"options": {"no_such": 1}}, "no_such"),
        ("test_resnet", {"options": {"checkpoint_path": "file.pth"}}, "cannot be set"),
        ("test_resnet", {"tap_depths": (0.5, 0.51)}, "tap_depths"),
        ("test_resnet", {"tap_depths": (1.5,)}, "tap_depths"),
        (HIGHPASS_SMALL, {"pretrained": True}, "no pretrained weights"),
        (HIGHPASS_SMALL, {"options": {"height": 3}}, "height"),
    ],
)
def test_wrong_backbone_is_refused_in_one_line(name: str, keywords, words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        create_backbone(name, **keywords)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub address at which nothing listens, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_hub_that_does_not_answer_is_asked_once(
    no_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own client would try each of its files for half a minute."""
    with Server(lambda request: Reply(reset=True)) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        with pytest.raises(UserError, match="not in the local cache") as refusal:
            create_backbone("test_resnet", pretrained=True)
    assert len(hub.requests) == 1
    assert "\n" not in str(refusal.value)


def test_pretrained_without_network_comes_from_the_cache(no_hub: Path) -> None:
    torch.manual_seed(1)
    published = timm.create_model("test_resnet")
    folder = no_hub / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    safetensors.torch.save_file(published.state_dict(), folder / "snapshots/abc/model.safetensors")
    loaded = create_backbone("test_resnet", pretrained=True).model.state_dict()
    assert loaded.keys() == {k for k in published.state_dict() if not k.startswith("fc.")}
    assert all(torch.equal(loaded[name], published.state_dict()[name]) for name in loaded)
