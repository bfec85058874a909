import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import rayapp
from rayapp.config.errors import UserError
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Labels, Preprocessing
from rayapp.models.folder import load_detector, save_detector
from rayapp.models.networks import build_network
from rayapp.storage.uris import open_store


def make_detector(
    seed: int = 0, view: str = "centre", num_outputs: int = 1, **spec: Any
) -> Detector:
    architecture = Architecture(
        backbone="highpass-small",
        options={"width": 4, "depth": 3},
        tap_depths=(0.5,),
        head=HeadSettings(hidden=8, num_outputs=num_outputs),
    )
    torch.manual_seed(seed)
    network = build_network(architecture)
    spec = {
        "architecture": architecture,
        "strides": network.encoder.backbone.strides(),
        "preprocessing": Preprocessing(view=view, size=32),
        "provenance": {"seed": seed},
    } | spec
    return Detector(network, DetectorSpec(**spec))


def calibration(detector: Detector, slope: float = 2.0) -> Calibration:
    return Calibration(
        method="platt",
        parameters={"slope": slope, "bias": 0.5},
        n=80,
        items_hash="0" * 64,
        detector_hash=detector.hash(),
        preprocessing_hash=detector.spec.preprocessing.hash,
    )


def with_spec(detector: Detector, **changes: Any) -> Detector:
    return Detector(detector.network, detector.spec.model_copy(update=changes))


@pytest.fixture
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(40, 50), (20, 90)]]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_detector(make_detector(), open_store(tmp_path))
    return tmp_path


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "detector.json").read_text())
        change(data)
        (folder / "detector.json").write_text(json.dumps(data))

    return apply


def edit_weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return apply


def test_round_trip_is_bit_equal(tmp_path: Path, images: list[np.ndarray]) -> None:
    detector = make_detector()
    detector = with_spec(detector, calibration=calibration(detector))
    digest = save_detector(detector, open_store(tmp_path))
    loaded = rayapp.load_detector(tmp_path)
    assert loaded.spec == detector.spec
    assert loaded.hash() == detector.hash() == digest
    for name, tensor in detector.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    np.testing.assert_array_equal(loaded.logits(images), detector.logits(images))
    np.testing.assert_array_equal(loaded.probability(images), detector.probability(images))


def test_channels_last_network_is_saved_as_it_was(tmp_path: Path) -> None:
    detector = make_detector()
    digest = detector.hash()
    detector.network.to(memory_format=torch.channels_last)
    assert save_detector(detector, open_store(tmp_path)) == digest
    assert load_detector(tmp_path).hash() == digest


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "detector.json").unlink(), "no such detector"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not whole"),
        (lambda folder: (folder / "detector.json").write_bytes(b"\x80\x04K"), "not JSON"),
        (lambda folder: (folder / "detector.json").write_text("[1]"), "not a detector"),
        (lambda folder: (folder / "detector.json").write_text("{}"), "architecture: is missing"),
        (edit(lambda data: data.update(extra=1)), "unknown key 'extra'"),
        (edit(lambda data: data.update(format=2)), "format"),
        (edit(lambda data: data["architecture"].update(backbone="no-net")), "no backbone"),
        (edit(lambda data: data["architecture"].update(backbone="hf-hub:a/b")), "no backbone"),
        (
            edit(lambda data: data["architecture"]["options"].update(checkpoint_path="x")),
            "'checkpoint_path' cannot be set",
        ),
        (edit(lambda data: data["labels"].update(classes=["a", "b", "c"])), "3 classes"),
        (edit(lambda data: data["strides"].pop("blocks.1.0")), "strides differ: blocks.1.0"),
        (edit(lambda data: data["preprocessing"].update(view="five")), "changed after saving"),
        (edit_weights(lambda tensors: tensors.pop("head.output.bias")), "lacks 1 tensors"),
        (
            edit_weights(lambda tensors: tensors.update(other=torch.ones(1))),
            "has surplus 1 tensors of the network: other",
        ),
        (
            edit_weights(lambda tensors: tensors.update({"head.output.bias": torch.ones(2)})),
            r"head.output.bias is \[2\]",
        ),
        (edit_weights(lambda tensors: tensors["head.output.bias"].add_(1)), "changed after"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n"),
            "not a safetensors file",
        ),
    ],
)
def test_spoilt_folder_is_refused_by_name(
    saved: Path, spoil: Callable[[Path], object], words: str
) -> None:
    load_detector(saved)
    spoil(saved)
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(saved)
    assert str(saved) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_folder_is_no_such_detector(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such detector"):
        load_detector(tmp_path / "nothing")


def test_hash_follows_weights_and_preprocessing_but_not_calibration() -> None:
    detector = make_detector()
    digest = detector.hash()
    assert make_detector().hash() == digest
    assert with_spec(detector, calibration=calibration(detector)).hash() == digest
    assert with_spec(detector, provenance={"by": "another"}).hash() == digest
    assert make_detector(seed=1).hash() != digest
    assert make_detector(view="five").hash() != digest
    with torch.no_grad():
        detector.network.head.output.bias += 1e-6
    assert detector.hash() != digest


def test_calibration_made_under_another_view_is_refused(tmp_path: Path) -> None:
    other = make_detector(view="five")
    detector = with_spec(make_detector(), calibration=calibration(other))
    save_detector(detector, open_store(tmp_path))
    with pytest.raises(UserError, match="another view"):
        load_detector(tmp_path)


def test_detector_of_classes_round_trips(tmp_path: Path, images: list[np.ndarray]) -> None:
    labels = Labels(column="generator", classes=("gan", "sd", "midjourney"))
    save_detector(make_detector(num_outputs=3, labels=labels), open_store(tmp_path))
    probability = load_detector(tmp_path).probability(images)
    assert probability.shape == (2, 3)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
