import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.models.inference.scoring_network import for_scoring
from rayapp.storage.uris import open_store
from tests.hub_folders import ARCHITECTURES, noise_images, pipeline_probability, save_folder

pytest.importorskip("transformers")
Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    return {name: save_folder(root / name, name) for name in ARCHITECTURES}


@pytest.fixture
def vit(folders, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(folders["vit"], tmp_path / "vit"))


def change(folder: Path, name: str = "config.json", **changes: object) -> None:
    found = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(found | changes))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_probability_is_that_of_transformers_own_pipeline(folders, name: str) -> None:
    images = noise_images()
    detector = load_detector(folders[name])
    expected = pipeline_probability(folders[name], images)
    assert np.abs(detector.probability(images) - expected).max() <= 1e-5
    assert np.ptp(expected) > 1e-4  # they are told apart at all
    views = torch.cat([detector.preprocess(np.asarray(image)) for image in images])
    with torch.inference_mode():
        rounded = for_scoring(detector.network, bf16=True)(views).sigmoid().numpy()
    assert np.abs(rounded - expected).max() <= 0.01


def test_several_synthetic_classes_add_up_in_probability(tmp_path: Path) -> None:
    labels = ("midjourney", "real", "stable diffusion", "flux")
    folder = save_folder(tmp_path / "four", "vit", labels)
    images = noise_images()
    found = load_detector(folder)
    assert found.spec.adopted.synthetic == (0, 2, 3)
    synthetic = ("midjourney", "stable diffusion", "flux")
    expected = pipeline_probability(folder, images, synthetic)
    assert np.abs(found.probability(images) - expected).max() <= 1e-5


@pytest.mark.parametrize("label", ["fake", "real"])
def test_a_sole_output_is_a_logit_of_what_it_is_called(tmp_path: Path, label: str) -> None:
    folder = save_folder(tmp_path / "one", "vit", (label,))
    images = noise_images()
    given = pipeline_probability(folder, images, (label,))
    expected = given if label == "fake" else 1 - given
    assert np.abs(load_detector(folder).probability(images) - expected).max() <= 1e-5


def test_unclear_classes_are_asked_for_and_taken_as_given(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "unclear", "vit", ("LABEL_0", "LABEL_1"))
    with pytest.raises(UserError, match="--synthetic-labels"):
        load_detector(folder)
    images = noise_images()
    first = load_detector(folder, synthetic_labels=["LABEL_0"])
    second = load_detector(f"{folder}#synthetic=LABEL_1")
    assert np.allclose(first.probability(images), 1 - second.probability(images), atol=1e-6)
    assert first.hash() != second.hash()


def test_weights_in_shards_and_in_16_bits_are_the_same_detector(vit, tmp_path: Path) -> None:
    from transformers import ViTForImageClassification

    images = noise_images()
    whole = load_detector(vit)
    model = ViTForImageClassification.from_pretrained(vit)
    shutil.copytree(vit, tmp_path / "shards")
    (tmp_path / "shards/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert load_detector(tmp_path / "shards").hash() == whole.hash()
    model.half().save_pretrained(vit)
    halved = load_detector(vit).probability(images)
    assert np.abs(halved - whole.probability(images)).max() <= 5e-3


def test_saved_as_ours_it_is_the_same_detector_alone(folders, tmp_path: Path) -> None:
    images = noise_images()
    for name in ("vit", "siglip"):
        detector = load_detector(folders[name])
        digest = save_detector(detector, open_store(tmp_path / name))
        again = load_detector(tmp_path / name)
        assert again.hash() == digest == detector.hash()
        assert again.spec == detector.spec
        assert np.array_equal(again.logits(images), detector.logits(images))


def test_the_hash_is_of_weights_processor_and_meaning(vit) -> None:
    hashes = {load_detector(vit).hash()}
    change(vit, "preprocessor_config.json", resample=3)
    hashes.add(load_detector(vit).hash())
    change(vit, "preprocessor_config.json", image_mean=[0.4, 0.5, 0.5])
    hashes.add(load_detector(vit).hash())
    change(vit, id2label={"0": "ai", "1": "human"})
    hashes.add(load_detector(vit).hash())
    tensors = safetensors.torch.load_file(vit / "model.safetensors")
    tensors["classifier.bias"] += 1
    safetensors.torch.save_file(tensors, vit / "model.safetensors")
    hashes.add(load_detector(vit).hash())
    assert len(hashes) == 5
    change(vit, _name_or_path="elsewhere", transformers_version="0", dtype="float16")
    assert load_detector(vit).hash() in hashes


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["EVIL"],)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def pickled_as_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))


def indexed(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
        weight_map = {f"w{at}": name for at, name in enumerate(names)}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return edit


def linked(name: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return edit


def with_code(folder: Path) -> None:
    (folder / "evil.py").write_text("import os\nos.mkdir(os.environ['EVIL'])\n")
    change(folder, auto_map={"AutoModelForImageClassification": "evil.Evil"})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (with_code, "auto_map.*code of its own"),
        (
            lambda f: change(f, "preprocessor_config.json", auto_map={"AutoImageProcessor": "e.E"}),
            "auto_map",
        ),
        (lambda f: change(f, vision={"deep": [{"auto_map": {"a": "b"}}]}), "auto_map"),
        (lambda f: change(f, custom_pipelines={"x": {"impl": "e.E"}}), "custom_pipelines"),
        (lambda f: change(f, quantization_config={"quant_method": "x"}), "quantised"),
        (lambda f: change(f, _attn_implementation="someone/kernel"), "someone/kernel"),
        (lambda f: change(f, model_type="evil"), "no image classifier of model_type 'evil'"),
        (lambda f: change(f, model_type=["vit"]), "no image classifier"),
        (lambda f: change(f, hidden_size=2_000_000), "asks for|can't be built"),
        (lambda f: change(f, hidden_size="x"), "config.json"),
        (lambda f: change(f, num_hidden_layers=3), "missing keys"),
        (lambda f: change(f, id2label={"0": "ai", "1": "real", "2": "fake"}), "weights"),
        (lambda f: change(f, problem_type="regression"), "no probability"),
        (
            lambda f: change(f, model_type="timm_wrapper", architecture="local-dir:/x"),
            "timm has no model",
        ),
        (
            lambda f: change(
                f,
                model_type="timm_wrapper",
                architecture="test_vit",
                label_names=["ai", "real"],
                model_args={"checkpoint_path": "/x.pth"},
            ),
            "checkpoint_path",
        ),
        (pickled, "only pytorch_model.bin, which may carry code"),
        (pickled_as_safetensors, "not a safetensors file"),
        (indexed("../model.safetensors"), "leads out of the folder"),
        (indexed("/etc/passwd"), "leads out of the folder"),
        (indexed("pytorch_model.bin"), "safetensors only"),
        (linked("model.safetensors"), "a link that leads out"),
        (linked("config.json"), "a link that leads out"),
        (lambda f: (f / "config.json").write_text("[]"), "a JSON object"),
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "how it sees an image is not known"),
        (lambda f: change(f, "preprocessor_config.json", do_pad=True), "pads images"),
        (
            lambda f: change(f, "preprocessor_config.json", size={"shortest_edge": 32}),
            "images of many sizes",
        ),
        (
            lambda f: change(f, "preprocessor_config.json", image_processor_type="Evil"),
            "no processor of images",
        ),
        (
            lambda f: change(
                f, "preprocessor_config.json", image_processor_type="MobileViTImageProcessor"
            ),
            "not repeated here|wants|many sizes",
        ),
    ],
)
def test_a_hostile_or_broken_folder_is_refused_in_one_line(
    vit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit, words: str
) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "executed"))
    edit(vit)
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(vit)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "executed").exists()


def test_what_lies_beside_is_not_read(vit, tmp_path: Path, monkeypatch) -> None:
    before = load_detector(vit).hash()
    monkeypatch.setenv("EVIL", str(tmp_path / "executed"))
    (vit / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    (vit / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    (vit / "modeling.py").write_text("import os\nos.mkdir(os.environ['EVIL'])\n")
    assert load_detector(vit).hash() == before
    assert not (tmp_path / "executed").exists()


def test_a_folder_of_the_hubs_own_cache_may_link_to_its_blobs(vit, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/abc"
    blobs = tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in list(vit.iterdir()):
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(blobs / path.name)
    assert isinstance(load_detector(snapshot), Detector)


@pytest.mark.parametrize(
    "changes",
    [
        {"resample": 0},
        {"resample": 1},
        {"resample": 3},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
            "size": {"height": 40, "width": 36},
        },
        {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 36},
            "crop_size": 32,
            "do_center_crop": True,
        },
        {"image_processor_type": "DINOv3ViTImageProcessor"},
        {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"},
        {"image_processor_type": "ViTImageProcessorPil", "resample": 3},
        {
            "image_processor_type": "DeiTImageProcessor",
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
        },
        {"image_processor_type": "BeitImageProcessor", "do_center_crop": False},
        {"size": 32},
    ],
)
def test_a_processors_settings_are_repeated_to_the_bit(vit, changes: dict) -> None:
    change(vit, "preprocessor_config.json", **changes)
    images = noise_images()
    detector = load_detector(vit)
    expected = pipeline_probability(vit, images)
    assert np.abs(detector.probability(images) - expected).max() <= 1e-5
