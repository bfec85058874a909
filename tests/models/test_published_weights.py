import argparse
import io
import os
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
from rayapp.models.foreign import open_checkpoint
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
        "model": model.state_dict(), "classifier": head.state_dict(), "opt": options, "epoch": 400,
    }  # fmt: skip
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
        (saved({"state": {}}), "has no 'model', but state: wrong file?"),
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


@pytest.mark.slow
def test_lasted_is_the_similarity_to_the_mean_of_real_images(monkeypatch) -> None:
    # The published one is RN50x64 at 448 px; the same layout in its smallest size.
    monkeypatch.setattr(published_weights, "_LASTED", "resnet50_clip.openai")
    monkeypatch.setattr(published_weights, "_LASTED_PX", 224)
    tower = unsettle(ImageTower(), 3)
    checkpoint = {f"module.clip_model.visual.{k}": v for k, v in tower.state_dict().items()}
    checkpoint |= {
        "module.fc.weight": torch.zeros(4, 512),
        "module.output_layer.0.bias": torch.zeros(3),
    }
    checkpoint["module.clip_model.text_projection"] = torch.zeros(2, 2)
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
