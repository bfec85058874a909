"""Images that the network does not take: one line, before anything starts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.jobs.train import train
from rayapp.models.networks import build_network
from rayapp.train.check import check
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext
from rayapp.transforms.perturbations import Perturbation, load_perturbation

Tiny = Callable[..., TrainSettings]
FIXED = {"img_size": 64, "dynamic_img_size": False}
VIT = {"backbone": "test_vit", "options": FIXED, "head": {"hidden": 8}}  # of patches of 16 px
ANY_VIT = VIT | {"options": {"dynamic_img_size": True}}
ON_VIT = {"loss": "ce", "architecture": VIT}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # A crop of another side than the network is built for.
        (
            {"architecture": VIT, "view_size": 64, "stage1__crop_px": 8},
            r"stage1: crops of 8 × 8 px don't fit test_vit: .*64.*; set stage1\.crop_px 64$",
        ),
        (
            {"architecture": VIT, "view_size": 64, "stage1__crop_px": 64, "stage2__crop_px": 32},
            r"^stage2: crops of 32 × 32 px .*; set stage2\.crop_px 64$",
        ),
        # The perturbation's own crop, of 16 px.
        ({"architecture": VIT, "view_size": 64}, r"stage1: crops of 16 × 16 px .*crop_px 64$"),
        # A side that is no multiple of the patch.
        (
            {"architecture": ANY_VIT, "view_size": 64, "stage1__crop_px": 40},
            r"crops of 40 × 40 px don't fit test_vit: .*16.*; set stage1\.crop_px (32|48)$",
        ),
        # What training takes, and the detector then does not.
        (
            {"architecture": ANY_VIT, "view_size": 40},
            r"^views of 40 × 40 px don't fit test_vit: .*; set view_size (32|48)$",
        ),
        # Halved more often than there are pixels.
        (
            {"architecture": {"backbone": "test_convnext"}, "view_size": 64, "stage1__crop_px": 8},
            r"stage1: crops of 8 × 8 px don't fit test_convnext: .*; set stage1\.crop_px \d+$",
        ),
    ],
)
def test_what_does_not_fit_is_said_with_what_does(tiny: Tiny, changes: dict, said: str) -> None:
    settings = tiny(loss="ce", **changes)
    with pytest.raises(UserError, match=said) as refused:
        train(settings)
    assert "\n" not in str(refused.value)
    assert not Path(settings.output).exists(), "nothing was begun"


def test_what_is_advised_is_taken(tiny: Tiny) -> None:
    make_job(
        tiny(loss="ce", architecture=VIT, view_size=64, stage1__crop_px=64, stage2__crop_px=64)
    )
    make_job(tiny(loss="ce", architecture=ANY_VIT, view_size=48))


def test_kept_features_are_of_views_and_no_crops(tiny: Tiny, tmp_path: Path) -> None:
    """The perturbation's crops of 16 px would fit nothing, and are never made."""
    probe = {"stage1__epochs": 0, "feature_cache": str(tmp_path / "features")}
    make_job(tiny(loss="ce", architecture=VIT, view_size=64, **probe))


def test_crops_whose_size_only_images_tell(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """Images as they are, all of one size: known when the first ones are read."""
    for index, line in enumerate((data / "all.txt").read_text().splitlines()):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / line.split(",")[0])
    (tmp_path / "flip.yaml").write_text("name: flip\nsteps: [{flip: {p: 0.5}}]\n")
    flip = str(tmp_path / "flip.yaml")
    settings = tiny(
        **ON_VIT,
        view_size=64,
        root=str(tmp_path),
        stage1__perturbation=flip,
        stage2__perturbation=flip,
    )
    job, _ = make_job(settings)
    with pytest.raises(UserError, match=r"stage1: crops of 24 × 24 px .*set stage1\.crop_px 64$"):
        check(build_network(job.spec.architecture), job, RankContext())


@pytest.mark.parametrize(
    ("name", "size"), [("imaginet-train", (96, 96)), ("demo-train", (64, 64)), ("web-train", None)]
)
def test_what_a_perturbation_makes_of_any_image(name: str, size: tuple[int, int] | None) -> None:
    assert load_perturbation(name).size_HW == size


def test_a_size_that_is_drawn_is_not_told() -> None:
    steps = [{"crop": {"side": 64, "at": "random"}}, {"rotate90": {"p": 0.5}}]
    assert Perturbation.model_validate({"name": "turned", "steps": steps}).size_HW == (64, 64)
    assert Perturbation.model_validate({"name": "as-is", "steps": steps[1:]}).size_HW is None


def test_variants_of_an_image_are_no_augmentation(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"jpeg-grid: makes variants .* a perturbation of steps"):
        make_job(tiny(stage1__perturbation="jpeg-grid"))


def test_one_image_is_compared_with_nothing(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    first = (data / "all.txt").read_text().splitlines()[0]
    (tmp_path / "one.txt").write_text(f"{first}\n")
    lists = {
        "annotations": [str(tmp_path / "one.txt")],
        "head_annotations": [str(data / "all.txt")],
    }
    with pytest.raises(UserError, match=r"one\.txt: one image only, and stage1 compares several"):
        make_job(tiny(**lists))
