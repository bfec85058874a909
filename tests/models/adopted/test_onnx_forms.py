"""ONNX files as people export them: bytes in, several outputs, weights beside, odd and broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.folder import save_detector
from rayapp.storage.uris import open_store
from tests.hub_folders import noise_images

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
SEEN: dict[str, Any] = {"size": 16, "mean": MEAN, "std": STD, "kind": "logit"}


class Net(nn.Module):
    """A convolution, its mean, and as many outputs as are asked for."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        torch.manual_seed(outputs)
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Any:
        return 10 * self.linear(self.conv(images).tanh().mean((2, 3)))


class Then(nn.Module):
    """Net, and what is done before and after it."""

    def __init__(self, net: nn.Module, before: Callable[[Tensor], Tensor], after: Any) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, images: Tensor) -> Any:
        return self.after(self.net(self.before(images)))


def plain(value: Any) -> Any:
    return value


def save(
    folder: Path,
    net: nn.Module,
    described: dict[str, Any],
    *,
    image: Tensor | None = None,
    outputs: tuple[str, ...] = ("y",),
    dynamic: dict[int, str] | None = None,
) -> Path:
    folder.mkdir(exist_ok=True)
    axes = {0: "n"} if dynamic is None else dynamic
    torch.onnx.export(
        net.eval(),
        (torch.zeros(2, 3, 16, 16) if image is None else image,),
        str(folder / "model.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=list(outputs),
        dynamic_axes={"x": axes, **{name: {0: "n"} for name in outputs}},
    )
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def views(folder: Path) -> Tensor:
    detector = load_detector(folder)
    return torch.cat([detector.preprocess(np.asarray(image)) for image in noise_images()])


def logits(net: nn.Module, images: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(net(images).double().numpy())


def probability(folder: Path, **options: Any) -> np.ndarray:
    return np.asarray(load_detector(folder, **options).probability(noise_images()))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def of_bytes(images: Tensor) -> Tensor:
    return (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )


def of_bytes_nhwc(images: Tensor) -> Tensor:
    return of_bytes(images.permute(0, 3, 1, 2))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_bytes_that_the_graph_normalises_itself(tmp_path: Path, layout: str) -> None:
    before = of_bytes if layout == "NCHW" else of_bytes_nhwc
    shape = (2, 3, 16, 16) if layout == "NCHW" else (2, 16, 16, 3)
    described = {"size": 16, "kind": "logit", "layout": layout, "filter": "bilinear"}
    folder = save(
        tmp_path / "m", Then(Net(), before, plain), described,
        image=torch.zeros(shape, dtype=torch.uint8),
    )  # fmt: skip
    beside = save(tmp_path / "f", Net(), SEEN | {"filter": "bilinear"})
    assert np.abs(probability(folder) - probability(beside)).max() <= 1e-5
    assert np.ptp(probability(folder)) > 1e-3
    again = SEEN | {"layout": layout}
    (folder / "model.json").write_text(json.dumps(again))
    with pytest.raises(UserError, match="normalises them itself: leave out"):
        load_detector(folder)


def test_doubles_and_any_height_and_width(tmp_path: Path) -> None:
    described = SEEN | {"size": 24}
    folder = save(
        tmp_path / "m", Then(Net(), lambda x: x.float(), plain), described,
        image=torch.zeros(2, 3, 16, 16, dtype=torch.float64), dynamic={0: "n", 2: "h", 3: "w"},
    )  # fmt: skip
    expected = sigmoid(logits(Net(), views(folder))[:, 0])
    assert np.abs(probability(folder) - expected).max() <= 1e-6


def test_of_several_outputs_one_is_asked_for(tmp_path: Path) -> None:
    net = Then(Net(2), plain, lambda y: (y.softmax(1), y, y.argmax(1)))
    described = SEEN | {"kind": "softmax", "classes": ["real", "fake"]}
    folder = save(tmp_path / "m", net, described, outputs=("p", "logits", "label"))
    with pytest.raises(UserError, match=r'3 outputs \(p, logits, label\): say .* "output": "p"'):
        load_detector(folder)
    y = logits(Net(2), views(save(tmp_path / "f", Net(2), described)))
    expected = np.exp(y[:, 1]) / np.exp(y).sum(1)
    for changes in ({"output": "logits"}, {"output": "p", "kind": "probability"}):
        (folder / "model.json").write_text(json.dumps(described | changes))
        assert np.abs(probability(folder) - expected).max() <= 1e-6
    (folder / "model.json").write_text(json.dumps(described | {"output": "label"}))
    with pytest.raises(UserError, match=r"'label' is of tensor\(int64\); floats are wanted"):
        load_detector(folder)


def test_what_outputs_cannot_be_is_said(tmp_path: Path) -> None:
    classes = {"classes": ["real", "gan", "diffusion"]}
    raw = save(tmp_path / "raw", Net(3), SEEN | classes | {"kind": "probability"})
    with pytest.raises(UserError, match=r'are no probabilities: say .* "logit" or "softmax"'):
        load_detector(raw)
    net = Then(Net(3), plain, lambda y: y.softmax(1))
    twice = save(tmp_path / "twice", net, SEEN | classes | {"kind": "softmax"})
    with pytest.raises(UserError, match=r'probabilities already: say .* "kind": "probability"'):
        load_detector(twice)
    net = Then(Net(3), plain, lambda y: y.sigmoid())
    apart = save(tmp_path / "apart", net, SEEN | classes | {"kind": "probability"})
    with pytest.raises(UserError, match="do not exclude each other"):
        load_detector(apart)
    expected = sigmoid(logits(Net(3), views(raw_as_logits(raw, classes)))[:, 1])
    found = probability(apart, synthetic_labels=["gan"])
    assert np.abs(found - expected).max() <= 1e-6
    sole = save(tmp_path / "sole", Net(1), SEEN | {"kind": "softmax"})
    with pytest.raises(UserError, match="some mean synthetic, and some real"):
        load_detector(sole)


def raw_as_logits(folder: Path, classes: dict[str, Any]) -> Path:
    (folder / "model.json").write_text(json.dumps(SEEN | classes | {"kind": "softmax"}))
    return folder


def test_classes_none_of_which_means_synthetic_are_asked_for(tmp_path: Path) -> None:
    net = Then(Net(2), plain, lambda y: y.sigmoid())
    described = SEEN | {"kind": "probability", "classes": ["real", "human"]}
    with pytest.raises(UserError, match="--synthetic-labels"):
        load_detector(save(tmp_path / "m", net, described))


def test_one_image_at_a_time_whose_output_has_no_axis(tmp_path: Path) -> None:
    net = Then(Net(1), plain, lambda y: y.reshape(()))
    folder = save(tmp_path / "m", net, SEEN, image=torch.zeros(1, 3, 16, 16), dynamic={})
    expected = sigmoid(logits(Net(), views(folder))[:, 0])
    assert np.abs(probability(folder) - expected).max() <= 1e-6


def beside(folder: Path, location: str = "model.onnx.data") -> None:
    """Its weights in a file beside it, as newer exporters write them."""
    model = onnx.load(folder / "model.onnx")
    onnx.save_model(
        model, str(folder / "model.onnx"), save_as_external_data=True,
        location=location, size_threshold=0,
    )  # fmt: skip


def test_weights_of_a_file_beside_it_are_its_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", Net(), SEEN)
    expected = probability(folder)
    beside(folder)
    assert (folder / "model.onnx.data").stat().st_size > 100
    detector = load_detector(folder)
    assert np.array_equal(detector.probability(noise_images()), expected)
    assert load_detector(folder / "model.onnx").hash() == detector.hash()
    save_detector(detector, open_store(tmp_path / "ours"))
    for path in folder.iterdir():
        path.unlink()  # ours holds them all
    assert np.array_equal(probability(tmp_path / "ours"), expected)


def linked(folder: Path) -> None:
    beside(folder)
    data = folder / "model.onnx.data"
    data.rename(folder.parent / "secret")
    data.symlink_to(folder.parent / "secret")


def relocated(**entries: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        beside(folder)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            known = {entry.key: entry.value for entry in tensor.external_data} | entries
            del tensor.external_data[:]
            for key, value in known.items():
                tensor.external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return edit


def custom(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].op_type, model.graph.node[0].domain = "Hidden", "com.example"
    model.opset_import.add(domain="com.example", version=1)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def of_opset(version: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        model.opset_import[0].version = version
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return edit


def cut(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (linked, "a link that leads out"),
        (relocated(location="../secret"), "leads out of the folder"),
        (relocated(location="/etc/passwd"), "leads out of the folder"),
        (relocated(location="gone.data"), "gone.data: no such file; its weights"),
        (relocated(offset="100000"), "too short"),
        (relocated(length="100000"), "too short"),
        (relocated(offset="-4"), "too short"),
        (relocated(length="many"), "says not where"),
        (custom, "onnxruntime can't run it: .*Hidden"),
        (of_opset(999), "onnxruntime can't run it: .*opset"),
        (cut, "not an ONNX file|onnxruntime can't run it"),
        (lambda f: (f / "model.onnx").unlink(), "no"),
    ],
)
def test_what_cannot_be_run_ends_in_one_line(
    tmp_path: Path, edit: Callable[[Path], None], words: str
) -> None:
    folder = save(tmp_path / "m", Net(), SEEN)
    edit(folder)
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(folder)
    assert "\n" not in str(refusal.value)


def test_a_folder_of_ours_is_asked_as_strictly(tmp_path: Path) -> None:
    """Whose file holds no weights asks for none of files that lie about."""
    folder = save(tmp_path / "m", Net(), SEEN)
    detector = load_detector(folder)
    beside(folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    detector.network.register_buffer("model", torch.frombuffer(data, dtype=torch.uint8))
    save_detector(detector, open_store(folder / "ours"))
    (folder / "ours/model.onnx.data").write_bytes((folder / "model.onnx.data").read_bytes())
    with pytest.raises(UserError, match="data of other files"):
        load_detector(folder / "ours")
