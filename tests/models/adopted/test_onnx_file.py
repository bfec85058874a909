import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.folder import save_detector
from rayapp.models.inference.scoring_network import for_scoring
from rayapp.storage.uris import open_store
from tests.hub_folders import noise_images

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
DESCRIBED = {"size": 16, "mean": MEAN, "std": STD, "filter": "bilinear", "kind": "logit"}


class Net(nn.Module):
    """A convolution, its mean, and as many outputs as are asked for."""

    def __init__(self, outputs: int, last: nn.Module | None = None, nhwc: bool = False) -> None:
        super().__init__()
        torch.manual_seed(outputs)
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)
        self.last, self.nhwc = last or nn.Identity(), nhwc

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2) if self.nhwc else images
        return self.last(10 * self.linear(self.conv(images).tanh().mean((2, 3))))


def save(folder: Path, net: nn.Module, *, one: bool = False, **described: object) -> Path:
    """The file of a network and the JSON beside it."""
    folder.mkdir(exist_ok=True)
    shape = (
        (1 if one else 2, 16, 16, 3)
        if getattr(net, "nhwc", False)
        else (1 if one else 2, 3, 16, 16)
    )
    torch.onnx.export(
        net.eval(),
        (torch.zeros(shape),),
        str(folder / "model.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=None if one else {"x": {0: "n"}, "y": {0: "n"}},
    )
    (folder / "model.json").write_text(json.dumps(DESCRIBED | described))
    return folder


def given(net: nn.Module, folder: Path, bgr: bool = False, nhwc: bool = False) -> np.ndarray:
    """What the network itself gives of the images, seen by the folder's preprocessing."""
    detector = load_detector(folder)
    views = torch.cat([detector.preprocess(np.asarray(image)) for image in noise_images()])
    views = views.flip(1) if bgr else views
    views = views.permute(0, 2, 3, 1) if nhwc else views
    with torch.inference_mode():
        return np.asarray(net(views).double().numpy())


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


@pytest.mark.parametrize("one", [False, True])
def test_a_logit(tmp_path: Path, one: bool) -> None:
    folder = save(tmp_path / "m", Net(1), one=one)
    detector = load_detector(folder)
    views = torch.cat([detector.preprocess(np.asarray(image)) for image in noise_images()])
    exact = detector.logits(noise_images())
    assert np.array_equal(for_scoring(detector.network, bf16=True)(views).numpy(), exact)
    for uri in (folder, folder / "model.onnx"):
        found = load_detector(uri).probability(noise_images())
        assert np.abs(found - sigmoid(given(Net(1), folder)[:, 0])).max() <= 1e-6
    assert np.ptp(found) > 1e-3


def test_a_probability_and_what_it_is_of(tmp_path: Path) -> None:
    net = Net(1, nn.Sigmoid())
    folder = save(tmp_path / "m", net, kind="probability", classes=["real"])
    found = load_detector(folder).probability(noise_images())
    assert np.abs(found - (1 - given(net, folder)[:, 0])).max() <= 1e-6


def test_classes_that_exclude_each_other(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", Net(3), kind="softmax", classes=["gan", "real", "diffusion"])
    outputs = np.exp(given(Net(3), folder))
    expected = (outputs[:, 0] + outputs[:, 2]) / outputs.sum(1)
    assert np.abs(load_detector(folder).probability(noise_images()) - expected).max() <= 1e-6
    unclear = save(tmp_path / "u", Net(3), kind="softmax", classes=["a", "b", "c"])
    with pytest.raises(UserError, match="--synthetic-labels"):
        load_detector(unclear)
    told = load_detector(unclear, synthetic_labels=["a", "c"])
    assert np.abs(told.probability(noise_images()) - expected).max() <= 1e-6
    described = save(
        tmp_path / "d", Net(3), kind="softmax", classes=["a", "b", "c"], synthetic=["a", "c"]
    )
    assert np.abs(load_detector(described).probability(noise_images()) - expected).max() <= 1e-6


def test_layout_and_order_of_colours(tmp_path: Path) -> None:
    net = Net(1, nhwc=True)
    folder = save(tmp_path / "m", net, layout="NHWC", channels="bgr")
    expected = sigmoid(given(net, folder, bgr=True, nhwc=True)[:, 0])
    assert np.abs(load_detector(folder).probability(noise_images()) - expected).max() <= 1e-6


def test_saved_as_ours_it_holds_the_file(tmp_path: Path) -> None:
    detector = load_detector(save(tmp_path / "m", Net(1)))
    save_detector(detector, open_store(tmp_path / "ours"))
    again = load_detector(tmp_path / "ours")
    assert again.hash() == detector.hash()
    assert np.array_equal(again.logits(noise_images()), detector.logits(noise_images()))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: (f / "model.json").unlink(), "has to say how model.onnx sees an image"),
        (lambda f: (f / "model.onnx").write_bytes(b"\x80\x04no"), "not an ONNX file"),
        (lambda f: (f / "model.onnx").write_bytes(b""), "not an ONNX file"),
        (lambda f: describe(f, kind="odds"), "kind"),
        (lambda f: describe(f, colour="red"), "unknown key 'colour'"),
        (lambda f: describe(f, output="z"), r"no output 'z' \(it has y\)"),
        (lambda f: describe(f, size=32), "its input is"),
        (lambda f: describe(f, layout="NHWC"), "its input is"),
        (lambda f: describe(f, classes=["real", "fake"], kind="softmax"), "1 outputs, 2 are named"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, edit: Callable[[Path], None], words: str
) -> None:
    folder = save(tmp_path / "m", Net(1))
    edit(folder)
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(folder).logits(noise_images())
    assert "\n" not in str(refusal.value)


def describe(folder: Path, **changes: object) -> None:
    (folder / "model.json").write_text(json.dumps(DESCRIBED | changes))
