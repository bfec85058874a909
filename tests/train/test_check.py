from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rayapp.config.errors import UserError
from rayapp.models.encoder import Network
from rayapp.models.networks import build_network
from rayapp.train.check import check
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext

Tiny = Callable[..., TrainSettings]


class _TooLarge(nn.Module):
    """A real request for more memory than any machine has."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 60)


def _checked(settings: TrainSettings) -> Network:
    job, _ = make_job(settings)
    network = build_network(job.spec.architecture)
    check(network, job, RankContext())
    return network


def test_a_good_job_passes_and_its_weights_are_not_touched(tiny: Tiny) -> None:
    torch.manual_seed(3)
    network = _checked(tiny())
    torch.manual_seed(3)
    fresh = build_network(make_job(tiny())[0].spec.architecture)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_wrong_root_is_named_with_the_first_image(tiny: Tiny, tmp_path: Path) -> None:
    pattern = r"stage1: 32 of 32 images tried under .*nowhere can't be read; first 00.png"
    with pytest.raises(UserError, match=pattern):
        _checked(tiny(root=str(tmp_path / "nowhere")))


def test_validation_images_that_are_not_there_are_told_before_training(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    lines = (data / "all.txt").read_text().splitlines()
    (tmp_path / "gone.txt").write_text("\n".join(f"gone/{line}" for line in lines))
    with pytest.raises(UserError, match=r"validation: 32 of 32 images tried .*first gone/00.png"):
        _checked(tiny(validation=[str(tmp_path / "gone.txt")]))


def test_crops_of_several_sizes_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "loose.yaml").write_text("name: loose\nsteps: [{rotate90: {p: 0.5}}]\n")
    with pytest.raises(
        UserError, match=r"perturbation loose gives crops of several sizes.* set stage1\.crop_px"
    ):
        _checked(tiny(stage1__perturbation=str(tmp_path / "loose.yaml")))
    _checked(tiny(stage1__perturbation=str(tmp_path / "loose.yaml"), stage1__crop_px=16))


def test_a_step_that_does_not_fit_is_told_before_training(tiny: Tiny) -> None:
    job, _ = make_job(tiny())
    network = build_network(job.spec.architecture)
    network.encoder.backbone = _TooLarge()  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"stage1.batch_size 12 on 1 workers does not fit"):
        check(network, job, RankContext())
