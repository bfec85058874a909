import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import JobFailed, UserError
from rayapp.export.exported import check, expected, last_layer, probe_images
from rayapp.export.settings import ExportSettings
from rayapp.jobs.export import export
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, LoraSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.lora import add_lora, merged
from rayapp.models.networks import build_network
from rayapp.models.scope import Images, Measured, Quantity, Scope
from rayapp.storage.uris import open_store
from tests.hub_families import save_family
from tests.hub_folders import noise_images, pipeline_probability, save_folder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("transformers")

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
RESIZED = Preprocessing(view="resize", size=160, resize_to=180, filter="bicubic", **IMAGENET)
CENTRE = Preprocessing(size=160, **IMAGENET)
LINEAR = HeadSettings(norm="none", hidden=0)
SCOPE = Scope(
    about="A detector for tests",
    trained=Images(name="noise", num_real=3, num_synthetic=4, generators=("progan", "adm")),
    measured=(
        Measured(
            name="smooth",
            num_real=5,
            figures={"roc_auc": Quantity(value=0.9, low=0.85, high=0.95)},
            date="2026-01-02",
        ),
    ),
)


def made(backbone: str, head: HeadSettings, seen: Preprocessing, **options: Any) -> Detector:
    torch.manual_seed(0)
    architecture = Architecture(backbone=backbone, head=head, options=options)
    network = build_network(architecture).eval()
    with torch.no_grad():
        network.head.output.weight.mul_(5)
        if isinstance(network.head.norm, torch.nn.BatchNorm1d):
            network.head.norm.running_mean.normal_(std=0.1)
            network.head.norm.running_var.uniform_(0.5, 2)
            network.head.norm.weight.uniform_(0.5, 2)
    strides = network.encoder.backbone.strides()
    provenance = {"licence": "CC-BY-4.0", "attribution": "Somebody", "settings": {"backbone": "x"}}
    spec = DetectorSpec(
        architecture=architecture,
        strides=strides,
        preprocessing=seen,
        scope=SCOPE,
        provenance=provenance,
    )
    return Detector(network, spec)


def platt(detector: Detector, **changes: Any) -> Detector:
    calibration = Calibration(
        method="platt",
        parameters={"slope": 0.7, "bias": -0.4},
        n=10,
        items_hash="x",
        detector_hash=detector.hash(),
        preprocessing_hash=detector.spec.preprocessing.hash,
        share_synthetic=0.5,
        prevalence=0.2,
        **changes,
    )
    return Detector(detector.network, detector.spec.model_copy(update={"calibration": calibration}))


def exported(detector: Detector, tmp_path: Path, **asked: Any) -> tuple[str, dict[str, Any]]:
    """The folder of the export, and the results of its run."""
    if not (tmp_path / "detector").exists():
        save_detector(detector, open_store(tmp_path / "detector"))
    output = str(tmp_path / "out")
    settings = ExportSettings(detector=str(tmp_path / "detector"), output=output, **asked)
    return output, export(settings).results


VIT = made("test_vit", HeadSettings(norm="batch", hidden=0), RESIZED)
NODOWN = made("resnet50-nodown", LINEAR, Preprocessing(size=64, **IMAGENET))


@pytest.mark.parametrize("fp16", [False, True])
def test_onnx_says_what_the_detector_says(tmp_path: Path, fp16: bool) -> None:
    folder, results = exported(VIT, tmp_path, to="onnx", fp16=fp16)
    assert results["largest_difference"] <= (5e-3 if fp16 else 1e-4)
    wanted = VIT.probability(probe_images())
    found = load_detector(folder).probability(probe_images())
    assert np.abs(found - wanted).max() <= (5e-3 if fp16 else 1e-4)
    assert np.ptp(wanted) > 0.01


@pytest.mark.slow  # 84 GMAC an image at 256 px; in 16 bits a CPU takes a minute
@pytest.mark.parametrize("fp16", [False, True])
def test_nodown_as_onnx(tmp_path: Path, fp16: bool) -> None:
    _, results = exported(NODOWN, tmp_path, to="onnx", fp16=fp16)
    assert results["largest_difference"] <= (5e-3 if fp16 else 1e-4)


def test_the_json_says_what_it_rests_on_and_no_more_than_fits(tmp_path: Path) -> None:
    folder, _ = exported(VIT, tmp_path, to="onnx")
    described = json.loads(Path(folder, "model.json").read_text())
    assert described["size"] == 160
    assert described["mean"] == list(IMAGENET["mean"])
    assert described["provenance"]["licence"] == "CC-BY-4.0"
    assert described["provenance"]["exported_from"] == VIT.hash()
    assert load_detector(folder).spec.scope == SCOPE


@pytest.mark.parametrize(
    ("head", "seen"),
    [
        (HeadSettings(norm="batch", hidden=0), RESIZED),
        (HeadSettings(norm="none", hidden=0, projection=16), CENTRE),
        (HeadSettings(norm="batch", hidden=0, projection=16), RESIZED),
    ],
)
def test_transformers_loads_the_folder_with_equal_results(tmp_path: Path, head, seen) -> None:
    detector = platt(made("test_vit", head, seen))
    folder, _ = exported(detector, tmp_path, to="huggingface")
    images = [Image.fromarray(pixels) for pixels in probe_images()]
    wanted = detector.probability(images)
    found = pipeline_probability(Path(folder), images, ("synthetic",))
    assert np.abs(found - wanted).max() <= 1e-4
    assert np.ptp(wanted) > 0.01
    assert load_detector(folder).spec.adopted.classes == ("real", "synthetic")


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet"])
def test_other_families_go_into_a_folder_too(tmp_path: Path, name: str) -> None:
    _, results = exported(made(name, LINEAR, RESIZED), tmp_path, to="huggingface")
    assert results["largest_difference"] <= 1e-4


def test_timm_itself_loads_the_weights(tmp_path: Path) -> None:
    folder, _ = exported(VIT, tmp_path, to="huggingface")
    file = {"file": str(Path(folder, "model.safetensors"))}
    timm.create_model("test_vit", pretrained=True, num_classes=2, pretrained_cfg_overlay=file)


def test_the_card_has_data_figures_limits_and_licence(tmp_path: Path) -> None:
    folder, _ = exported(VIT, tmp_path, to="huggingface")
    text = Path(folder, "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["pipeline_tag"] == "image-classification"
    assert header["license_name"] == "CC-BY-4.0"
    for part in (
        "A detector for tests",
        "Generators: progan, adm",
        "ROC AUC 0.900 (0.850–0.950)",
        "## Limits",
        "CC-BY-4.0. To be named: Somebody.",
        VIT.hash(),
    ):
        assert part in text


def test_a_linear_calibration_is_the_last_layer(tmp_path: Path) -> None:
    detector = platt(VIT)
    slope, offset = last_layer(detector.spec.calibration)
    logits = VIT.logits(probe_images())
    found = 1 / (1 + np.exp(-(slope * logits + offset)))
    assert np.abs(found - detector.probability(probe_images())).max() <= 1e-6
    folder, _ = exported(detector, tmp_path, to="onnx")
    assert (
        np.abs(
            load_detector(folder).probability(probe_images()) - expected(detector, probe_images())
        ).max()
        <= 1e-4
    )


def test_a_steep_calibration_is_the_last_layer_too() -> None:
    steep = platt(VIT).spec.calibration.model_copy(
        update={"parameters": {"slope": -7000.0, "bias": 500.0}, "prevalence": None}
    )
    assert last_layer(steep) == (-7000.0, 500.0)


def test_another_calibration_is_left_out_and_said(tmp_path: Path) -> None:
    beta = platt(VIT).spec.calibration.model_copy(
        update={"method": "beta", "parameters": {"a": 1.0, "b": 1.0, "c": 0.5}}
    )
    assert last_layer(beta) == (1.0, 0.0)


def test_a_detector_of_others_becomes_onnx_as_well(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "hub", "convnext")
    detector = load_detector(folder)
    out = str(tmp_path / "out")
    results = export(ExportSettings(detector=str(folder), to="onnx", output=out)).results
    assert results["largest_difference"] <= 1e-4
    assert load_detector(out).spec.preprocessing == detector.spec.preprocessing
    with pytest.raises(UserError, match="an ONNX file already"):
        export(ExportSettings(detector=out, to="onnx", output=str(tmp_path / "again")))


# Position embeddings that are fitted to the image, channels in reverse, a crop of a share.
@pytest.mark.parametrize("name", ["dinov2_with_registers", "mobilevit", "poolformer"])
def test_further_families_become_onnx_too(tmp_path: Path, name: str) -> None:
    folder = save_family(tmp_path / "hub", name)
    detector, out = load_detector(folder), str(tmp_path / "out")
    results = export(ExportSettings(detector=str(folder), to="onnx", output=out)).results
    assert results["largest_difference"] <= 1e-4
    assert np.ptp(detector.probability(noise_images())) > 1e-5
    assert load_detector(out).spec.preprocessing == detector.spec.preprocessing
    assert not torch.jit.is_tracing()


def test_unclear_classes_are_taken_as_given(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "hub", "vit", ("LABEL_0", "LABEL_1"))
    common = {"detector": str(folder), "to": "onnx"}
    with pytest.raises(UserError, match="--synthetic-labels"):
        export(ExportSettings(**common, output=str(tmp_path / "no")))
    out = str(tmp_path / "out")
    export(ExportSettings(**common, synthetic_labels=("LABEL_1",), output=out))
    expected = load_detector(folder, synthetic_labels=["LABEL_1"]).probability(noise_images())
    assert np.abs(load_detector(out).probability(noise_images()) - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (NODOWN, "the backbone resnet50-nodown"),
        (made("test_vit", HeadSettings(norm="length", hidden=0), RESIZED), "unit length"),
        (made("test_vit", HeadSettings(), RESIZED), "hidden layer"),
        (made("test_vit", HeadSettings(norm="none", hidden=0, pool="mean"), RESIZED), "tokens"),
        (made("test_vit", LINEAR, Preprocessing(view="tiles", size=160)), "in several parts"),
        (made("test_vit", LINEAR, Preprocessing(view="resize", size=160)), "by area"),
        (made("test_vit", LINEAR, CENTRE.model_copy(update={"input_scale": 1.0})), "not scaled"),
    ],
)
def test_what_transformers_has_no_place_for_is_said(tmp_path: Path, detector, words) -> None:
    with pytest.raises(UserError, match=f"has no place for .*{words}.*--to onnx"):
        exported(detector, tmp_path, to="huggingface")
    assert not list((tmp_path / "out").glob("*.*"))


def test_an_export_that_says_something_else_is_refused() -> None:
    other = made("test_vit", HeadSettings(norm="none", hidden=0), RESIZED)
    with pytest.raises(JobFailed, match=r"differs from the detector by .* nothing was written"):
        check(VIT, other, 1e-4)


def test_without_a_login_nothing_is_pushed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="not logged in to the hub"):
        exported(VIT, tmp_path, to="huggingface", push="me/mine")
    with pytest.raises(ValueError, match="push goes with --to huggingface"):
        ExportSettings(detector="x", output="y", to="onnx", push="me/mine")


def test_a_vit_that_was_adapted_by_lora_and_merged(tmp_path: Path) -> None:
    plain = made("test_vit", LINEAR, RESIZED)
    network = plain.network
    add_lora(network.encoder.backbone, LoraSettings(rank=2, alpha=4))
    for name, parameter in network.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    detector = Detector(merged(network), plain.spec)
    for to in ("onnx", "huggingface"):
        (tmp_path / to).mkdir()
        folder, results = exported(detector, tmp_path / to, to=to)
        assert results["largest_difference"] <= 1e-4
        found = load_detector(folder).probability(probe_images())
        assert np.abs(found - VIT.probability(probe_images())).max() > 1e-3
