from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import timm
import torch

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_yaml
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import LAYOUTS
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_scorer
from rayapp.storage.uris import open_store
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings

Tiny = Callable[..., TrainSettings]
RECIPES = (
    "demo",
    "imaginet-selfcon",
    "imaginet-ce",
    "imaginet-model-id",
    "probe",
    "probe-dinov3",
    "probe-pe",
    "aligned-probe",
    "aligned-small",
    "aligned-lora",
    "commfor-web",
    "clip-b16-lora",
)


def test_a_head_of_its_own_list_and_a_class_a_model(tiny: Tiny, data: Path) -> None:
    job, inputs = make_job(tiny(target="model"))
    assert job.spec.architecture.head.num_outputs == 4
    assert len(job.spec.labels.classes) == 4
    assert [len(stage.items) for stage in job.stages] == [44, 29]
    assert {"root", str(data / "all.txt"), "perturbation of stage1"} <= inputs.keys()


def test_stages_of_no_epochs_are_left_out(tiny: Tiny) -> None:
    assert [s.name for s in make_job(tiny(stage1__epochs=0))[0].stages] == ["stage2"]


def test_a_list_of_one_class_is_refused(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    lines = (data / "all.txt").read_text().splitlines()
    (tmp_path / "real.txt").write_text("\n".join(ln for ln in lines if ln.split(",")[1] == "0"))
    with pytest.raises(UserError, match="one origin only, nothing to tell apart"):
        make_job(tiny(head_annotations=[str(tmp_path / "real.txt")]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 4}, "stage1.batch_size 12 is too small for 4 workers; give at least 16"),
        ({"min_workers": 2}, "min_workers 2 is above num_workers"),
        ({"stage2__epochs": 0}, "only loss ce trains a head in stage 1"),
        ({"stage1__epochs": 0, "stage2__epochs": 0, "loss": "ce"}, "both stages have 0 epochs"),
        ({"loss": "triplet"}, "loss: input should be 'selfcon', 'supcon' or 'ce'"),
        ({"stage1__batch_size": 1}, "stage1.batch_size: input should be greater than or equal to"),
        ({"seed": 1 << 63}, "seed: input should be less than 9223372036854775808"),
        ({"threads": 100_000}, "threads: input should be less than or equal to 1024"),
    ],
)
def test_settings_that_cannot_work_say_why(tiny: Tiny, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            {"options": {"num_heads": 5}},
            "'test_vit' can't be built with options num_heads=5: .*dim",
        ),
        ({"options": {"patch_size": 0}}, "can't be built with options patch_size=0: ZeroDivision"),
        ({"options": {"act_layer": "none of them"}}, "act_layer='none of them': KeyError"),
        ({"options": {"global_pool": "x"}}, "global_pool='x': AssertionError Only avg"),
        (
            {"head": {"pool": "mean", "layers": [0, 0]}},
            r"head\.layers \[0, 0\]: names a block twice",
        ),
        ({"head": {"pool": "mean", "layers": [5, -1]}}, r"layers \[5, -1\]: names a block twice"),
    ],
)
def test_networks_that_cannot_be_built_say_why(
    tiny: Tiny, architecture: dict, message: str
) -> None:
    """Whatever timm and torch raise, it is one line, when the job is planned."""
    settings = tiny(architecture={"backbone": "test_vit"} | architecture, loss="ce")
    with pytest.raises(UserError, match=message) as refused:
        make_job(settings)
    assert "\n" not in str(refused.value)


def _published(name: str, folder: Path) -> str:
    """A detector laid out as the published one of that name, of random weights."""
    architecture, seen = LAYOUTS[name]
    network = build_scorer(architecture)
    strides = network.backbones[0].strides()
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    save_detector(Detector(network, spec), open_store(folder))
    return str(folder)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned(name: str, data: Path, tmp_path: Path) -> None:
    recipe, _ = read_yaml(resource("configs", name))
    (tmp_path / "list.txt").write_text("a.png,0,0,4,4\nb.png,1,0,3,3\nc.png,1,0,1,1\n")
    if name.startswith("aligned"):
        groups = pa.table({"path": ["a.png", "b.png"], "group": ["a", "a"]})
        pq.write_table(groups, tmp_path / "pairs.parquet")
        recipe |= {"scheme": "demo", "manifest": str(tmp_path / "pairs.parquet")}
    if recipe["scheme"] == "imaginet":
        (tmp_path / "list.txt").write_text("a.png,0,0,4,8\nb.png,1,0,3,7\nc.png,1,0,1,3\n")
    if "encoder" in recipe:
        recipe["encoder"] = _published(Path(recipe["encoder"]).name, tmp_path / "published")
    recipe |= {
        "annotations": [str(tmp_path / "list.txt")],
        "root": str(tmp_path),
        "output": str(tmp_path / "out"),
    }
    job, _ = make_job(TrainSettings.model_validate(recipe))
    assert job.num_images > 0
    if name.startswith("imaginet"):
        assert job.spec.architecture.backbone == "resnet50-nodown"
        assert job.stages[0].settings.batch_size == 200
    header = resource("configs", name).read_text().split("\n\n")[0]
    if name == "commfor-web":  # seen as it was trained, not as timm's weights were
        assert job.spec.preprocessing == LAYOUTS["commfor"][1]
    for part in ("Command:", "Hardware:", "Hours:", "Expected:"):
        assert f"# {part}" in header, f"{name} does not say {part}"


def test_a_probe_starts_from_the_weights_of_a_file(tiny: Tiny, tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = timm.create_model("test_vit").state_dict()
    safetensors.torch.save_file(published, tmp_path / "weights.safetensors")
    probe = {
        "architecture": {"backbone": "test_vit", "options": {"img_size": 64}, "head": {}},
        "view_size": 64,
        "loss": "ce",
        "stage1__epochs": 0,
    }
    settings = tiny(**probe, backbone_weights=str(tmp_path / "weights.safetensors"))
    job, inputs = make_job(settings)
    assert len(inputs[str(tmp_path / "weights.safetensors")]) == 64
    assert job.spec.provenance["inputs"].items() >= inputs.items()
    network = Engine(job).network.encoder.backbone.model
    assert torch.equal(network.blocks[0].mlp.fc1.weight, published["blocks.0.mlp.fc1.weight"])
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"lacks .* of backbone 'test_vit'"):
        make_job(settings)
    with pytest.raises(UserError, match="encoder and backbone_weights both say where to start"):
        tiny(**probe, backbone_weights="x", encoder="y")


def test_a_pretrained_backbone_sees_images_resized_as_in_its_pretraining(tiny: Tiny) -> None:
    clip = "vit_base_patch16_clip_quickgelu_224.openai"
    built = {"backbone": clip, "head": {"norm": "length", "hidden": 0}}
    changes = {"architecture": built, "view_size": 224, "view": "resize", "stage1__epochs": 0}
    changes |= {"stage2__crop_px": 224}
    seen = make_job(tiny(**changes, pretrained=True))[0].spec.preprocessing
    assert seen.filter == "bicubic"
    assert seen.mean == (0.48145466, 0.4578275, 0.40821073)
    assert make_job(tiny(**changes))[0].spec.preprocessing.filter is None
    with pytest.raises(UserError, match="trained with QuickGELU"):
        make_job(
            tiny(
                **changes
                | {
                    "architecture": built | {"backbone": clip.replace("quickgelu_", "")},
                    "pretrained": True,
                }
            )
        )
