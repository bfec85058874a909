"""A trial of training, in this process, on folds that leave out sources of real images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rayapp.storage.uris import open_store
from rayapp.tune.search_plan import make_search_plan
from rayapp.tune.trials.contract import TrialContext
from tests.tune.conftest import Made


def test_a_trial_is_judged_on_the_source_that_its_fold_leaves_out(
    training: Made, images: Path, tmp_path: Path
) -> None:
    table = pq.read_table(images / "manifest.parquet")
    cameras = [f"camera {int(g.split('-')[1]) % 2}" for g in table["group"].to_pylist()]
    pq.write_table(table.append_column("source", pa.array(cameras)), tmp_path / "m.parquet")
    settings = training(
        leave_out="source", folds=["camera 1"], manifest=str(tmp_path / "m.parquet")
    )
    search_plan, store = make_search_plan(settings), open_store(settings.output)
    search_plan.write_folds(store)
    work = search_plan.training(store)
    found = work.run(TrialContext(0, {}, lambda epoch, figures: None, float("inf")))
    figure = found.figures["held_out_roc_auc"]
    assert figure is not None
    assert found.facts["folds"] == {"camera 1": figure}
    assert found.figures["balanced_accuracy"] is not None
