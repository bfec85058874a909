"""LoRA, heads on tokens, consistency and layer-wise rates, as training keeps them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.models.folder import load_detector
from rayapp.models.lora import add_lora, merged
from rayapp.models.losses import consistency_loss
from rayapp.models.networks import build_network
from rayapp.train.data.batches import share
from rayapp.train.data.crops import Crops, Unreadable
from rayapp.train.dropout import StepSeed, share_dropout
from rayapp.train.engine import Engine
from rayapp.train.loop import train_alone
from rayapp.train.objectives import create_objective, set_trained
from rayapp.train.optimisation import create_optimizer, set_learning_rate
from rayapp.train.prepare import make_job
from rayapp.train.settings import StageSettings, TrainSettings
from tests.ddp import RankPool
from tests.models.vits import made
from tests.train.ranks import weights_on_rank

Tiny = Callable[..., TrainSettings]
VIT = {
    "backbone": "vit_tiny_patch16_224",
    "options": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2},
}
HEADS: dict[str, dict[str, Any]] = {
    "plain": {"hidden": 8, "dropout": 0.3},
    "cls": {"hidden": 0, "pool": "cls", "layers": [0, 1]},
    "attention": {"hidden": 8, "dropout": 0.3, "pool": "attention", "layers": [0, -1]},
}
LORA = {"rank": 2, "alpha": 4, "layers": [0, -1]}


@pytest.fixture
def adapting(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Settings of a tiny job that adapts a ViT by all means together."""
    (tmp_path / "other.yaml").write_text("name: other\nsteps: [{jpeg: {quality: [40, 90]}}]\n")
    consistency = {"perturbation": str(tmp_path / "other.yaml"), "features": 0.5, "logits": 2.0}

    def made_(head: str = "attention", **changes: Any) -> TrainSettings:
        given = {
            "loss": "ce",
            "architecture": {**VIT, "head": HEADS[head]},
            "lora": LORA,
            "consistency": consistency,
            "stage1__crop_px": 16,
            "stage1__layer_decay": 0.7,
        }
        return tiny(**{**given, **changes})

    return made_


def _run(engine: Engine, num_epochs: int = 99) -> Engine:
    for _, _figures in zip(range(num_epochs), engine.epochs(), strict=False):
        pass
    return engine


def _weights(engine: Engine) -> dict[str, Tensor]:
    return engine.network.state_dict()


def test_the_named_weights_alone_change_and_the_folder_is_as_ever(adapting: Tiny) -> None:
    settings = adapting(validation=adapting().annotations, stage2__epochs=1)
    start = _weights(Engine(make_job(settings)[0]))
    train_alone(settings)
    for folder in ("detector", "last"):
        saved = load_detector(f"{settings.output}/{folder}").network.state_dict()
        assert not any("lora" in name for name in saved)
        assert set(saved) == {name for name in start if "lora" not in name}
        changed = {name for name, tensor in saved.items() if not torch.equal(tensor, start[name])}
        model = "encoder.backbone.model.blocks"
        named = {f"{model}.{b}.attn.{t}.weight" for b in (0, 2) for t in ("qkv", "proj")}
        assert {name for name in changed if name.startswith("encoder.")} == named
        assert {"pool.query", "head.output.weight"} <= changed


STAGED = {
    "swin_tiny_patch4_window7_224": {
        "img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 8, "num_heads": [1, 2],
        "depths": [1, 1],
    },
    "convnext_atto": {"output_stride": 8, "depths": [1] * 4, "dims": [8] * 4, "conv_mlp": False},
}  # fmt: skip


@pytest.mark.parametrize("backbone", STAGED)
def test_networks_of_stages_are_adapted_merged_and_loaded(adapting: Tiny, backbone: str) -> None:
    swin = backbone.startswith("swin")
    targets = ["attn.qkv", "attn.proj"] if swin else ["mlp.fc1", "mlp.fc2"]
    settings = adapting(
        architecture={"backbone": backbone, "options": STAGED[backbone], "head": HEADS["plain"]},
        lora={"rank": 2, "targets": targets, "layers": [-1]},
        consistency=None,
        stage2__epochs=0,
    )
    start = _weights(Engine(make_job(settings)[0]))
    train_alone(settings)
    saved = load_detector(f"{settings.output}/detector").network.state_dict()
    assert set(saved) == {name for name in start if "lora" not in name}
    changed = {name for name, tensor in saved.items() if not torch.equal(tensor, start[name])}
    block = "layers.1.blocks.0" if swin else "stages.3.blocks.0"
    named = {f"encoder.backbone.model.{block}.{target}.weight" for target in targets}
    assert {name for name in changed if name.startswith("encoder.")} == named


def test_what_is_saved_scores_as_what_was_trained(adapting: Tiny) -> None:
    engine = _run(Engine(make_job(adapting(stage2__epochs=0))[0]))
    images = torch.rand(4, 3, 16, 16)
    engine.network.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            merged(engine.network)(images), engine.network(images), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_going_on_from_a_state_gives_the_same_weights_to_the_bit(
    adapting: Tiny, num_epochs: int
) -> None:
    job, _ = make_job(adapting())
    whole, cut, resumed = Engine(job), Engine(job), Engine(job)
    _run(whole)
    resumed.load(copy.deepcopy(_run(cut, num_epochs).state()))
    torch.manual_seed(12345)
    _run(resumed)
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name


@pytest.mark.parametrize("head", ["cls", "attention"])
def test_two_ranks_give_the_weights_of_one(adapting: Tiny, ranks: RankPool, head: str) -> None:
    settings = adapting(
        head, stage1__epochs=2, stage2__epochs=1,
        stage1__optimizer="sgd", stage2__optimizer="sgd",
    )  # fmt: skip
    alone = _weights(_run(Engine(make_job(settings)[0])))
    for weights in ranks.run(weights_on_rank, [(settings,)] * 2):
        for name, tensor in alone.items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-5)


def _gradients(settings: TrainSettings, stage: str, images: Tensor, targets: Tensor) -> Any:
    """Gradients in float64 of this rank's share, by name, as DDP leaves them; and the loss."""
    num_ranks = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(0)
    network = build_network(settings.architecture)
    if settings.lora:
        add_lora(network.encoder.backbone, settings.lora)
    draws = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws)
    set_trained(network, stage)
    objective = create_objective(network, stage, settings, True).double().train()
    seed = StepSeed(seed=7)
    share_dropout(objective, seed)
    mine, views = share(len(targets), rank, num_ranks), len(images) // len(targets)
    seed.offset, seed.num_items = views * mine.start, len(images)
    wrapped = objective if num_ranks == 1 else DistributedDataParallel(objective)
    rows = images[views * mine.start : views * mine.stop]
    labels = torch.zeros(len(targets[mine]), 4, dtype=torch.long)
    loss = objective.loss(wrapped(rows), labels, targets[mine])
    loss.backward()
    found = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    return found, float(loss.detach())


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("head", HEADS)
def test_gradients_of_any_number_of_ranks_are_those_of_one_process(
    adapting: Tiny, ranks: RankPool, head: str, stage: str
) -> None:
    wanted: dict[str, Any] = {**HEADS[head], "norm": "none"}  # one process without SyncBatchNorm
    settings = adapting(architecture={**VIT, "head": wanted})
    draws = torch.Generator().manual_seed(0)
    views = 2 if stage == "stage1" else 1
    images = torch.rand(views * 7, 3, 16, 16, generator=draws, dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    alone, loss = _gradients(settings, stage, images, targets)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in alone.values())
    assert any("lora" in name for name in alone) == (stage == "stage1")
    assert ("network.pool.query" in alone) == (head == "attention")
    for num_ranks in (1, 2, 3):
        arguments = [(settings, stage, images, targets)] * num_ranks
        answers = ranks.run(_gradients, arguments)
        mean = sum(share_ for _, share_ in answers) / num_ranks
        assert mean == pytest.approx(loss, abs=1e-12)
        for gradients, _ in answers:
            assert gradients.keys() == alone.keys()
            for name, gradient in gradients.items():
                assert float((gradient - alone[name]).abs().max()) < 1e-12, name


def test_consistency_is_cosine_and_symmetric_kl() -> None:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(5, 2, 6, generator=draws, dtype=torch.float64)
    for shape in ((5, 2), (5, 2, 3)):
        logits = torch.randn(*shape, generator=draws, dtype=torch.float64)
        if len(shape) == 2:
            p = torch.stack([logits.sigmoid(), 1 - logits.sigmoid()], 2)
        else:
            p = logits.softmax(2)
        one, other = p.unbind(1)
        kl = (F.kl_div(one.log(), other, reduction="none").sum(1)
              + F.kl_div(other.log(), one, reduction="none").sum(1)) / 2  # fmt: skip
        a, b = (f / f.norm(dim=1, keepdim=True) for f in features.unbind(1))
        expected = (0.5 * (1 - (a * b).sum(1)) + 2 * kl).mean()
        found = consistency_loss(features, logits, feature_weight=0.5, logit_weight=2.0)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0.0)
        same = consistency_loss(
            features[:, :1].expand(-1, 2, -1), logits[:, :1].expand(shape),
            feature_weight=1.0, logit_weight=1.0,
        )  # fmt: skip
        assert abs(float(same)) < 1e-12


def test_the_two_views_are_of_one_image_and_drawn_apart(adapting: Tiny) -> None:
    any_size = VIT["options"] | {"dynamic_img_size": True}
    architecture = VIT | {"options": any_size, "head": HEADS["attention"]}
    job, _ = make_job(adapting(architecture=architecture, stage1__crop_px=8))
    stage = job.stages[0]
    both = Crops(stage.items, job.settings.root, stage.perturbation, 1, stage.second)
    first = Crops(stage.items, job.settings.root, stage.perturbation, 1)
    second = Crops(stage.items, job.settings.root, stage.second, 1)
    for index in range(4):
        read = [crops[0, index] for crops in (both, first, second)]
        assert not any(isinstance(one, Unreadable) for one in read)
        views, one, other = (pixels for pixels, _ in read)
        np.testing.assert_array_equal(views, [one, other])
        assert not np.array_equal(one, other)
    assert job.stages[1].second is None


def test_the_same_perturbation_twice_draws_twice(adapting: Tiny) -> None:
    settings = adapting()
    consistency = {"perturbation": settings.stage1.perturbation}
    stage = make_job(adapting(consistency=consistency))[0].stages[0]
    assert stage.second is not None
    plans = [p.draw((64, 64), "x", 1) for p in (stage.perturbation, stage.second)]
    assert plans[0] != plans[1]


def test_rates_fall_layer_by_layer() -> None:
    network = made()
    stage = StageSettings(
        perturbation="demo-train", epochs=1, batch_size=8, learning_rate=0.4, layer_decay=0.5
    )
    optimizer = create_optimizer(network, stage, backbone=network.encoder.backbone)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    by_name = {name: rates[id(p)] for name, p in network.named_parameters()}
    model = "encoder.backbone.model"
    assert by_name["head.output.weight"] == by_name[f"{model}.norm.weight"] == 0.4
    for block in range(3):
        rate = by_name[f"{model}.blocks.{block}.attn.qkv.weight"]
        assert rate == pytest.approx(0.4 * 0.5 ** (2 - block))  # the last one has the whole
    assert by_name[f"{model}.pos_embed"] < by_name[f"{model}.blocks.0.norm1.weight"]
    assert optimizer.param_groups[0]["lr"] == 0.4  # what is shown of a step
    set_learning_rate(optimizer, 0.2)
    halved = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert halved == {key: pytest.approx(rate / 2) for key, rate in rates.items()}


def test_without_decay_there_is_one_group() -> None:
    network = made()
    stage = StageSettings(perturbation="demo-train", epochs=1, batch_size=8, learning_rate=0.4)
    (group,) = create_optimizer(network, stage, backbone=network.encoder.backbone).param_groups
    assert len(group["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage1__epochs": 0, "consistency": None}, "lora is for stage 1"),
        ({"stage1__epochs": 0, "lora": None}, "consistency is for stage 1"),
        ({"loss": "selfcon", "head": "plain"}, "consistency wants loss ce"),
        ({"loss": "selfcon", "consistency": None}, "stage 1 trains it with loss ce only"),
        ({"feature_cache": "x"}, "attention is trained on tokens"),
        ({"lora": {"rank": 0}}, "lora.rank"),
        (
            {"architecture": {**VIT, "head": {"pool": "mean"}, "tap_depths": [0.5]}},
            "tap_depths and head.pool",
        ),
        ({"architecture": {**VIT, "tap_depths": [0.5]}}, "set no tap_depths"),
        ({"architecture": {**VIT, "head": {"layers": [0]}}}, "set pool too"),
    ],
)
def test_what_does_not_go_together_is_refused(
    adapting: Tiny, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        adapting(**changes)


def test_a_probe_on_pooled_tokens_is_trained_from_the_cache(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(
        architecture={**VIT, "head": {**HEADS["cls"], "pool": "mean"}},
        stage1__epochs=0,
        feature_cache=str(tmp_path / "features"),
    )
    engine = _run(Engine(make_job(settings)[0]))
    assert engine.network.head.output.in_features == 32
    other = settings.model_dump()
    other["architecture"]["head"]["layers"] = (1, 2)
    _run(Engine(make_job(validated(TrainSettings, other, str))[0]))
    assert len(list((tmp_path / "features").iterdir())) == 2  # each pool's features are its own
