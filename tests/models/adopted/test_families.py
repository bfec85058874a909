"""Further architectures and processors of Hugging Face folders, against transformers' pipeline."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from tests.hub_families import FAMILIES, save_family
from tests.hub_folders import noise_images, pipeline_probability, save_folder

pytest.importorskip("transformers")
Edit = Callable[[Path], None]
PROCESSOR = "preprocessor_config.json"
SQUARE = {"height": 32, "width": 32}


def change(folder: Path, name: str = "config.json", **changes: object) -> None:
    found = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(found | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("families") / "vit", "vit")


@pytest.fixture
def vit(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    (tmp_path / "vit").mkdir()
    for path in made.iterdir():
        (tmp_path / "vit" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "vit"


@pytest.mark.parametrize("name", FAMILIES)
def test_probability_is_that_of_the_pipeline(tmp_path: Path, name: str) -> None:
    folder, images = save_family(tmp_path / name, name), noise_images()
    expected = pipeline_probability(folder, images)
    assert np.abs(load_detector(folder).probability(images) - expected).max() <= 1e-5
    assert np.ptp(expected) > 1e-5  # they are told apart at all


@pytest.mark.parametrize("name", ["cvt", "levit", "poolformer"])
def test_very_long_images_are_seen_as_the_pipeline_sees_them(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    shapes = ((1, 3000), (400, 3), (900, 7))
    images = [Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]
    folder = save_family(tmp_path / name, name)
    expected = pipeline_probability(folder, images)
    assert np.abs(load_detector(folder).probability(images) - expected).max() <= 1e-5


def processor(name: str, **changes: object) -> dict[str, object]:
    return {"image_processor_type": f"{name}ImageProcessor", **changes}


@pytest.mark.parametrize(
    "changes",
    [
        processor("EfficientNet", rescale_factor=1 / 127.5, rescale_offset=True, include_top=False),
        processor("EfficientNet", rescale_factor=1 / 127.5, rescale_offset=True),
        processor("EfficientNet", do_normalize=False, do_center_crop=True, crop_size=SQUARE),
        processor("Levit", size={"shortest_edge": 30}, crop_size=SQUARE),
        processor("Levit", size={"height": 40, "width": 36}, crop_size=32),
        processor("PoolFormer", size={"shortest_edge": 32}, crop_pct=0.8, crop_size=SQUARE),
        processor("PoolFormer", size={"height": 32, "width": 32}, crop_size=SQUARE),
        processor("MobileViT", size={"shortest_edge": 36}, crop_size=SQUARE),
        processor("MobileViT", size=SQUARE, do_center_crop=False, do_flip_channel_order=False),
        processor("MobileViT", size=SQUARE, do_center_crop=False, do_normalize=True),
        processor("ConvNext", size={"shortest_edge": 32}, crop_pct=0.7),
        processor("Segformer", resample=3),
        processor("CLIP", size={"shortest_edge": 36, "longest_edge": 50}, crop_size=SQUARE),
        processor("CLIP", size={"shortest_edge": 36, "longest_edge": 50}, crop_size=32, resample=0),
        {"crop_pct": 0.9, "do_flip_channel_order": True, "include_top": True},
        {"image_processor_type": "ViTImageProcessorPil", "resample": 0},
        {"image_processor_type": "ViTImageProcessorFast"},
        {"image_processor_type": None},
        {"use_fast": True},
        {"use_fast": False},
        {"crop_pct": 0.9, "do_convert_rgb": True},
        {"image_mean": 0.4, "image_std": 0.3},
        {"do_normalize": None, "rescale_factor": 1 / 127.5},
    ],
)
def test_odd_processors_are_repeated(vit: Path, changes: dict) -> None:
    change(vit, PROCESSOR, **changes)
    images = noise_images()
    expected = pipeline_probability(vit, images)
    assert np.abs(load_detector(vit).probability(images) - expected).max() <= 1e-5


def test_a_processor_within_a_processors_file_goes_before(vit: Path) -> None:
    images = noise_images()
    plain = load_detector(vit)
    inner = json.loads((vit / PROCESSOR).read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    nested = {"image_processor": inner, "processor_class": "SiglipProcessor"}
    (vit / "processor_config.json").write_text(json.dumps(nested))
    expected = pipeline_probability(vit, images)
    for there in (True, False):  # newer versions write this file alone
        found = load_detector(vit)
        assert found.spec.preprocessing.mean == (0.1, 0.2, 0.3)
        assert np.abs(found.probability(images) - expected).max() <= 1e-5
        if there:
            (vit / PROCESSOR).unlink()
    assert found.hash() != plain.hash()


def with_header(length: int) -> Edit:
    return lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")  # type: ignore[return-value]


def reshaped(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = tensors["classifier.weight"].T.contiguous()
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def sharded_into_a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "shard.safetensors").mkdir()
    index = {"weight_map": {"x": "shard.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("resample", [4, 5])
@pytest.mark.parametrize("kind", ["ViTImageProcessor", "ViTImageProcessorPil"])
def test_a_filter_that_transformers_itself_cannot_run_is_refused(
    vit: Path, resample: int, kind: str
) -> None:
    change(vit, PROCESSOR, image_processor_type=kind, resample=resample)
    try:
        expected = pipeline_probability(vit, noise_images())
    except NotImplementedError:  # of torchvision
        with pytest.raises(UserError, match="no processor of images"):
            load_detector(vit)
    else:
        found = load_detector(vit).probability(noise_images())
        assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (with_header(1 << 60), "not a safetensors file"),
        (with_header(200 << 20), "not a safetensors file"),
        (reshaped, r"mismatched keys, 1 of them, such as .*classifier\.weight"),
        (lambda f: change(f, num_channels=1), "mismatched keys, 1 of them"),
        (sharded_into_a_folder, "shard.safetensors: no such file; the folder is not whole"),
        (lambda f: change(f, trust_remote_code=True), "code of its own"),
        (lambda f: change(f, model_type="dinov3_vit"), "no image classifier of model_type"),
        (lambda f: change(f, num_hidden_layers=10**7), "more than 1000 layers"),
        (lambda f: change(f, model_type="swin", depths=[2] * 10**4), "more than 1000 layers"),
        (
            lambda f: change(
                f, model_type="timm_wrapper", architecture="test_vit",
                label_names=["ai", "real"], model_args=["x"],
            ),
            "model_args: a JSON object is wanted",
        ),
        (lambda f: change(f, PROCESSOR, size={"height": 64, "width": 64}), "on images of 64×64 px"),
        (lambda f: change(f, PROCESSOR, **processor("Siglip2")), "pixel_attention_mask"),
        (lambda f: change(f, PROCESSOR, **processor("ImageGPT")), "gives input_ids"),
        (lambda f: change(f, PROCESSOR, resample=4), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, resample=9), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, resample="x"), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, image_mean="x"), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, image_std=[0, 0, 0]), "not finite"),
        (lambda f: change(f, PROCESSOR, rescale_factor=0), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, size="x"), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, size={"height": -3, "width": 4}), "preprocessor_config"),
        (lambda f: change(f, PROCESSOR, do_center_crop=True), "preprocessor_config.json"),
        (lambda f: change(f, PROCESSOR, image_processor_type=7), "preprocessor_config.json"),
        (
            lambda f: change(
                f, PROCESSOR,
                **processor("ConvNext", size={"shortest_edge": 40}),
                do_center_crop=True, crop_size=32,
            ),
            "crops twice",
        ),
        (
            lambda f: change(
                f, PROCESSOR, size={"shortest_edge": 32, "longest_edge": 64},
                **processor("CLIP", do_center_crop=False),
            ),
            "images of many sizes",
        ),
        (
            lambda f: (f / "processor_config.json").write_text('{"image_processor": 3}'),
            "image_processor: a JSON object is wanted",
        ),
    ],
)  # fmt: skip
def test_what_is_hostile_or_odd_ends_in_one_line(vit: Path, edit: Edit, words: str) -> None:
    edit(vit)
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(vit)
    assert "\n" not in str(refusal.value)
