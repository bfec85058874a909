"""Training on pairs: both of a group in one step, and cut alike where that is asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rayapp.config.errors import UserError
from rayapp.train.data.crops import Crops
from rayapp.train.data.items import TrainItem
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.transforms import load_perturbation
from tests.ddp import RankPool
from tests.train.conftest import NUM_ITEMS
from tests.train.ranks import weights_on_rank

Tiny = Callable[..., TrainSettings]


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    """Images two by two, the last ones by themselves."""
    paths = [f"{at:02}.png" for at in range(NUM_ITEMS)]
    groups = [f"photo {at // 2}" if at < 40 else None for at in range(NUM_ITEMS)]
    pq.write_table(pa.table({"path": paths, "group": groups}), tmp_path / "pairs.parquet")
    return str(tmp_path / "pairs.parquet")


class _Recorded(Engine):
    """An engine that keeps the ids that it took in each step."""

    def _loader(self):  # type: ignore[no-untyped-def]
        self.taken = getattr(self, "taken", [])
        for batch in super()._loader():
            self.taken.append(batch)
            yield batch


@pytest.mark.parametrize("loss", ["selfcon", "supcon", "ce"])
def test_every_loss_trains_on_pairs(tiny: Tiny, manifest: str, loss: str) -> None:
    job, inputs = make_job(tiny(loss=loss, manifest=manifest, shared_draws=0.5))
    assert manifest in inputs
    engine = _Recorded(job)
    list(engine.epochs())
    assert engine.done
    assert sum(len(batch) for batch in engine.taken) == 4 * NUM_ITEMS


def test_a_probe_trains_on_pairs(tiny: Tiny, manifest: str, tmp_path: Path) -> None:
    job, _ = make_job(tiny(stage1__epochs=0, feature_cache=str(tmp_path / "f"), manifest=manifest))
    engine = Engine(job)
    list(engine.epochs())
    assert engine.done


def test_groups_change_the_order_and_nothing_else_does(tiny: Tiny, manifest: str) -> None:
    with_groups, without = (make_job(tiny(**m))[0] for m in ({"manifest": manifest}, {}))
    paired, plain = (job.stages[0].order(42) for job in (with_groups, without))
    assert plain.groups_N is None
    assert paired.groups_N is not None
    for step in paired.steps(1):
        ids = {with_groups.stages[0].items[at].group for at in step} - {""}
        members = [at for at in step if at < 40]
        assert len(members) == 2 * len(ids)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_train_the_network_of_one(
    tiny: Tiny, manifest: str, ranks: RankPool, num_ranks: int
) -> None:
    sgd = {"stage1__optimizer": "sgd", "stage2__optimizer": "sgd"}
    settings = tiny(manifest=manifest, shared_draws=1.0, stage2__epochs=1, **sgd)
    alone = Engine(make_job(settings)[0])
    list(alone.epochs())
    for weights in ranks.run(weights_on_rank, [(settings,)] * num_ranks):
        for name, tensor in alone.network.state_dict().items():
            if tensor.is_floating_point():
                torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-5)


def test_a_pair_is_cut_alike_by_its_chance(data: Path) -> None:
    items = [TrainItem(f"{n}.png", f"{n}.png", (1, 0, 2, 2), 1, "photo") for n in ("01", "02")]
    perturbation = load_perturbation(str(data / "tiny.yaml"))

    def plans(share: float, epoch: int) -> set[str]:
        crops = Crops(items, str(data), perturbation, 1, shared_draws=share)
        drawn = (crops._drawn_for(item, epoch) for item in items)
        return {perturbation.draw((24, 28), one, 1, epoch)["plain"].to_json() for one in drawn}

    assert all(len(plans(1.0, epoch)) == 1 for epoch in range(20))
    assert sum(len(plans(0.0, epoch)) == 1 for epoch in range(20)) < 3
    assert 4 < sum(len(plans(0.5, epoch)) == 1 for epoch in range(20)) < 17
    assert len({next(iter(plans(1.0, epoch))) for epoch in range(20)}) > 15
    crops = Crops(items, str(data), perturbation, 1, shared_draws=1.0)
    single = Crops(items[:1], str(data), perturbation, 1, shared_draws=1.0)
    np.testing.assert_array_equal(crops.crop(items[0], 3), single.crop(items[0], 3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shared_draws": 0.5}, "shared_draws: goes with manifest"),
        ({"ingest": "stream", "manifest": "x"}, "ingest stream keeps no groups together"),
    ],
)
def test_what_does_not_go_together_is_said(tiny: Tiny, changes: dict[str, object], said: str):
    with pytest.raises(UserError, match=said):
        tiny(**changes)


def test_a_wrong_manifest_is_one_line(tiny: Tiny, manifest: str, tmp_path: Path) -> None:
    table = pq.read_table(manifest)
    pq.write_table(table.drop_columns(["group"]), tmp_path / "none.parquet")
    with pytest.raises(UserError, match=r"none\.parquet: has no column group"):
        make_job(tiny(manifest=str(tmp_path / "none.parquet")))
    large = pa.table({"path": table["path"], "group": ["all"] * NUM_ITEMS})
    pq.write_table(large, tmp_path / "large.parquet")
    with pytest.raises(UserError, match=r"stage1\.batch_size 12: group all has 44 images"):
        make_job(tiny(manifest=str(tmp_path / "large.parquet")))
