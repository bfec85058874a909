import argparse
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models import published_weights
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.models.foreign import open_checkpoint, weights_of
from rayapp.models.preprocessing import preprocess
from rayapp.models.published_weights import convert
from rayapp.storage.uris import open_store
from tests.models.clip_reference import ImageTower
from tests.models.reference import ResNet50, unsettle

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def normalised(detector: Detector, size: int = 48) -> Tensor:
    """As the original does it: torchvision's ToTensor and Normalize."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return ((torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255 - mean) / std)[None]


class Imaginet(nn.Module):
    """Encoder, sub-network and heads under the original's names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet50("shortcut")
        self.encoder.selfcon_layer = nn.ModuleList([nn.Sequential(), nn.Linear(512, 2048)])
        self.head = nn.Sequential(nn.Linear(2048, 8), nn.ReLU(), nn.Linear(8, 4))
        self.sub_heads = nn.ModuleList(
            [nn.Sequential(nn.Linear(2048, 8), nn.ReLU(), nn.Linear(8, 4))]
        )


@pytest.fixture(scope="module")
def imaginet() -> tuple[nn.Module, nn.Module, dict[str, Any]]:
    model = unsettle(Imaginet())
    head = nn.Sequential(
        nn.BatchNorm1d(2048), nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1024, 1)
    )
    unsettle(head, 1)
    options = argparse.Namespace(model="resnet50nodown", epochs=400)
    checkpoint = {
        "model": model.state_dict(),
        "classifier": head.state_dict(),
        "opt": options,
        "epoch": 400,
    }
    return model, head, checkpoint


def test_imaginet_scores_as_plain_torch_does(imaginet, tmp_path: Path) -> None:
    model, head, checkpoint = imaginet
    detector = convert("imaginet", {"imaginet_weights.pt": saved(checkpoint)})
    save_detector(detector, open_store(tmp_path))
    detector = load_detector(tmp_path)
    seen = detector.spec.preprocessing.model_copy(update={"size": 48})
    with torch.inference_mode():
        features = model.encoder(normalised(detector))
        logit = head(features)[:, 0]
        images = preprocess(PIXELS, seen)
        ours_features, ours = detector.network.features(images), detector.network(images)
    error = (ours_features - features).norm() / features.norm()
    assert error < 1e-5
    assert abs(ours - logit) < 1e-5 * abs(logit)
    assert (seen.view, detector.spec.preprocessing.size) == ("centre", 256)


def test_the_subnetwork_comes_along(imaginet) -> None:
    model, _, checkpoint = imaginet
    detector = convert("imaginet", {"w.pt": saved(checkpoint)})
    ours = detector.network.encoder.subnetworks[0].weight
    assert torch.equal(ours, model.encoder.selfcon_layer[1].weight)


def nodown(seed: int) -> tuple[nn.Module, bytes]:
    network = ResNet50()
    network.fc = nn.Linear(2048, 1)
    unsettle(network, seed)
    return network, saved({"model": network.state_dict()})


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("grag2021", 1, marks=pytest.mark.slow),
        pytest.param("imaginet_corvi", 1, marks=pytest.mark.slow),
        pytest.param("corvi2022", 2, marks=pytest.mark.slow),
    ],
)
def test_nodown_logits_and_their_mean(name: str, count: int, tmp_path: Path) -> None:
    networks, contents = zip(*(nodown(seed) for seed in range(count)), strict=True)
    files = {f"{at}/model_epoch_best.pth": data for at, data in enumerate(contents)}
    save_detector(convert(name, files), open_store(tmp_path))
    detector = load_detector(tmp_path)
    with torch.inference_mode():
        image = normalised(detector)
        wanted = torch.stack([net.fc(net(image))[:, 0] for net in networks]).mean(0)
        ours = detector.network(image)
    assert abs(ours - wanted) < 1e-5 * abs(wanted)


def test_other_strides_give_other_features_and_are_refused(imaginet) -> None:
    _, _, checkpoint = imaginet
    detector = convert("imaginet", {"w.pt": saved(checkpoint)})
    assert "conv1" not in detector.spec.strides
    strides = {**detector.spec.strides, "conv1": (2, 2)}
    with pytest.raises(UserError, match=r"strides differ: conv1 is \(1, 1\)"):
        Detector(detector.network, detector.spec.model_copy(update={"strides": strides}))


def test_missing_surplus_and_misshapen_tensors_are_named(imaginet) -> None:
    _, _, checkpoint = imaginet
    model = checkpoint["model"]
    lacking = {k: v for k, v in model.items() if k != "encoder.layer3.2.conv2.weight"}
    surplus = {**model, "encoder.layer9.0.conv1.weight": torch.zeros(1)}
    wrong = {**model, "encoder.conv1.weight": torch.zeros(64, 3, 3, 3)}
    for changed, words in (
        (lacking, r"w\.pt: lacks 1 tensors .*layer3\.2\.conv2\.weight"),
        (surplus, r"w\.pt: has surplus 1 tensors .*layer9\.0\.conv1\.weight"),
        (wrong, r"conv1\.weight is \[64, 3, 3, 3\], the network takes \[64, 3, 7, 7\]"),
    ):
        with pytest.raises(UserError, match=words):
            convert("imaginet", {"w.pt": saved({**checkpoint, "model": changed})})


def test_wrong_files_are_refused_by_name(imaginet) -> None:
    _, _, checkpoint = imaginet
    for data, words in (
        (b"<!DOCTYPE html>", "holds no weights"),
        (saved(checkpoint)[:5000], "holds no weights of torch, or is damaged"),
        (saved([1, 2]), "holds a list"),
        (saved({"state": {}}), "holds no weights by name, but state: wrong file?"),
        (nodown(0)[1], "has no 'classifier'"),
    ):
        with pytest.raises(UserError, match=rf"odd\.pt: {words}"):
            convert("imaginet", {"odd.pt": data})
    with pytest.raises(UserError, match="mean of two networks, 1 files"):
        convert("corvi2022", {"a.pth": b""})
    with pytest.raises(UserError, match="no published detector 'nope'; there are imaginet"):
        convert("nope", {})


class Intruder:
    """Its pickle runs a command when it is opened."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_executes_code_is_refused_and_nothing_executed(
    zipped: bool, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    file = io.BytesIO()
    content = {"model": {}, "classifier": Intruder(f"touch {proof}")}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"odd\.pt: refused: .*system.*nothing of it was executed"):
        open_checkpoint(file.getvalue(), "odd.pt")
    assert not proof.exists()
    torch.load(io.BytesIO(file.getvalue()), weights_only=False)  # the threat is real
    assert proof.exists()


@pytest.mark.slow
def test_commfor_scores_as_timm_does(tmp_path: Path) -> None:
    import safetensors.torch
    import timm
    import torchvision.transforms.functional as TF
    from PIL import Image

    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch16_384.augreg_in21k_ft_in1k", num_classes=1).eval()
    content = safetensors.torch.save({f"vit.{k}": v for k, v in vit.state_dict().items()})
    detector = convert("commfor", {"model.safetensors": content, "config.json": b"{}"})
    pixels = np.random.default_rng(1).integers(0, 256, (499, 613, 3), np.uint8)
    image = TF.center_crop(TF.resize(Image.fromarray(pixels), 440), 384)
    tensor = TF.normalize(TF.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(detector.preprocess(pixels)[0], tensor, atol=1e-6, rtol=0)
        wanted = vit(tensor[None])[0, 0]
    assert detector.logits([pixels])[0] == pytest.approx(float(wanted), rel=1e-5)


def smaller_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, seen = published_weights.LAYOUTS["lasted"]
    small = architecture.model_copy(update={"backbone": "resnet50_clip.openai"})
    layout = small, seen.model_copy(update={"size": 224})
    monkeypatch.setitem(published_weights.LAYOUTS, "lasted", layout)


def lasted_weights(tower: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's tensors, without what DataParallel puts before their names."""
    return {
        **{f"clip_model.visual.{name}": tensor for name, tensor in tower.state_dict().items()},
        "fc.weight": torch.zeros(4, 512),
        "output_layer.0.bias": torch.zeros(3),
        "clip_model.text_projection": torch.zeros(2, 2),
    }


@pytest.mark.slow
def test_lasted_is_the_similarity_to_the_mean_of_real_images(monkeypatch) -> None:
    # The published one is RN50x64 at 448 px; the same layout in its smallest size.
    smaller_clip(monkeypatch)
    tower = unsettle(ImageTower(), 3)
    checkpoint = {f"module.{name}": tensor for name, tensor in lasted_weights(tower).items()}
    rng = np.random.default_rng(5)
    anchors = [rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(3)]
    image = rng.integers(0, 256, (224, 224, 3), np.uint8)
    with pytest.raises(UserError, match="give some, such as the hundred"):
        convert("lasted", {"LASTED_pretrained.pt": saved(checkpoint)})
    detector = convert("lasted", {"LASTED_pretrained.pt": saved(checkpoint)}, anchors)
    with torch.inference_mode():
        inputs = torch.stack([detector.preprocess(one)[0] for one in [image, *anchors]])
        embedded = torch.nn.functional.normalize(tower(inputs), dim=-1)
        wanted = embedded[0] @ embedded[1:].mean(0)
    assert detector.logits([image])[0] == pytest.approx(-float(wanted), rel=1e-4)


# --- weights as people save them ------------------------------------------------------------------

Weights = dict[str, Any]


def named(start: str) -> Callable[[Weights], Weights]:
    """Each tensor's name with `start` before it; containers stay containers."""

    def wrap(weights: Weights) -> Weights:
        wrapped = {}
        for name, value in weights.items():
            is_container = isinstance(value, dict)
            wrapped[name if is_container else start + name] = wrap(value) if is_container else value
        return wrapped

    return wrap


def under(key: str) -> Callable[[Weights], Weights]:
    """The weights in a container, beside what a training loop keeps with them."""
    loop = {"epoch": 3, "best_acc": torch.tensor(0.9), "optimizer": {"state": {0: torch.ones(2)}}}
    return lambda weights: {key: weights, **loop}


WRAPPED: dict[str, tuple[Callable[[Weights], Weights], ...]] = {
    "DataParallel": (named("module."),),
    "compiled": (named("_orig_mod."),),
    "compiled within DDP": (named("_orig_mod."), named("module.")),
    "state_dict": (under("state_dict"),),
    "model_state_dict": (under("model_state_dict"),),
    "net": (under("net"),),
    "model": (under("model"),),
    "Lightning": (named("model."), under("state_dict")),
    "Lightning, compiled": (named("net._orig_mod."), under("state_dict")),
    "DeepSpeed": (named("module."), under("module")),
    "nested": (named("module."), under("model"), under("state_dict")),
}


@pytest.mark.parametrize("case", WRAPPED)
@pytest.mark.parametrize("first", [None, "module.", "state_dict"])
def test_whatever_stands_around_weights_is_taken_off(case: str, first: str | None) -> None:
    plain = {"fc.weight": torch.ones(2, 3), "layer1.0.bias": torch.zeros(3)}
    wrapped: Weights = dict(plain)
    if first:
        wrapped = named(first)(wrapped) if first.endswith(".") else {first: wrapped}
    for wrap in WRAPPED[case]:
        wrapped = wrap(wrapped)
    assert weights_of(wrapped, "w.pt").keys() == plain.keys()


def test_two_networks_in_one_file_are_not_mixed() -> None:
    both = {"model": {"fc.weight": torch.ones(1)}, "net": {"module.fc.weight": torch.zeros(1)}}
    with pytest.raises(UserError, match=r"w\.pt: holds fc\.weight twice"):
        weights_of(both, "w.pt")


def test_a_part_within_the_network_may_be_wrapped_too(imaginet) -> None:
    """SupCon's training wraps the encoder alone: `encoder.module.conv1.weight`."""
    _, _, checkpoint = imaginet
    model = {
        name.replace("encoder.", "encoder.module.", 1): tensor
        for name, tensor in checkpoint["model"].items()
    }
    found = convert("imaginet", {"w.pt": saved({**checkpoint, "model": model})})
    assert found.hash() == convert("imaginet", {"w.pt": saved(checkpoint)}).hash()


@pytest.fixture(scope="module")
def layouts(imaginet) -> dict[str, Weights]:
    """What each published file holds under its own names, without wrappers."""
    _, _, checkpoint = imaginet
    network = ResNet50()
    network.fc = nn.Linear(2048, 1)
    nodown_weights = unsettle(network, 7).state_dict()
    import timm

    vit = timm.create_model("vit_tiny_patch16_384.augreg_in21k_ft_in1k", num_classes=1)
    return {
        "imaginet": {name: checkpoint[name] for name in ("model", "classifier")},
        "imaginet_corvi": nodown_weights,
        "corvi2022": nodown_weights,
        "grag2021": nodown_weights,
        "lasted": lasted_weights(unsettle(ImageTower(), 3)),
        "commfor": {f"vit.{name}": tensor for name, tensor in vit.state_dict().items()},
    }


# Networks of tens of megabytes: three at once, the others with the slow tests.
_AT_ONCE = {("imaginet", "nested"), ("grag2021", "Lightning, compiled"), ("commfor", "nested")}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(*pair, marks=[] if pair in _AT_ONCE else pytest.mark.slow)
        for pair in itertools.product(published_weights.PUBLISHED, WRAPPED)
    ],
)
def test_every_layout_is_taken_as_people_save_it(
    layouts: dict[str, Weights], monkeypatch: pytest.MonkeyPatch, name: str, case: str
) -> None:
    smaller_clip(monkeypatch)
    architecture, seen = published_weights.LAYOUTS["commfor"]
    tiny = architecture.model_copy(update={"backbone": "vit_tiny_patch16_384.augreg_in21k_ft_in1k"})
    monkeypatch.setitem(published_weights.LAYOUTS, "commfor", (tiny, seen))
    anchors = [np.full((224, 224, 3), 9, np.uint8)] if name == "lasted" else []
    count = 2 if name == "corvi2022" else 1

    def converted(weights: Weights) -> str:
        data = saved(weights)
        return convert(name, {f"{at}/w.pth": data for at in range(count)}, anchors).hash()

    wrapped = layouts[name]
    for wrap in WRAPPED[case]:
        wrapped = wrap(wrapped)
    assert converted(wrapped) == converted(layouts[name])
