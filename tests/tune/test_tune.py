"""The whole search on Ray Tune, on tiny data."""

import csv
import json
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from rayapp import load_detector
from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.yaml_files import parse_yaml
from rayapp.dataset.labels import read_list
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.jobs.tune import search, tune
from rayapp.metrics.ranking import roc_auc
from rayapp.storage.store import LocalStore
from rayapp.train.loop import train_alone
from rayapp.train.settings import TrainSettings
from rayapp.tune.search_plan import make_search_plan
from rayapp.tune.study import NumberedSampler, open_study
from rayapp.tune.trials.contract import Outcome, TrialContext
from rayapp.tune.trials.training import trial_folder
from tests.detectors import saved_detector
from tests.tune.conftest import SCHEME, Made


@pytest.mark.ray
def test_a_search_of_calibration_leaves_what_was_promised(calibrating: Made) -> None:
    settings = calibrating()
    run = tune(settings)
    output = Path(settings.output)
    assert run.counts == {"trials": 12, "complete": 12, "stopped early": 0, "failed": 0, "left": 0}
    table = pq.read_table(output / "trials.parquet")
    assert table["number"].to_pylist() == list(range(12))
    assert table["starting_point"][0].as_py() == "recipe"
    assert min(table["nll"].to_pylist()) == run.results["values"]["nll"]
    assert "How the search went" in (output / "tune.html").read_text()
    assert "NLL after calibration: best" in run.results["verdict"]
    # best.yaml runs as it is.
    best = yaml.safe_load((output / "best.yaml").read_text())
    from rayapp.calibrate.fit import calibrate
    from rayapp.calibrate.settings import CalibrateSettings

    found = calibrate(parse_yaml(output / "best.yaml", CalibrateSettings))
    assert found.results["method"] == best.get("method", "platt")
    # The same again is done at once; more trials go on.
    assert tune(settings).state == "done"
    more = tune(calibrating(trials=15))
    assert more.counts["trials"] == 15
    before, now = table.to_pylist(), pq.read_table(output / "trials.parquet").to_pylist()
    assert [row["seconds"] for row in now[:12]] == [row["seconds"] for row in before]


@pytest.mark.ray
def test_the_scores_that_calibrate_made_are_taken(
    calibrating: Made, images: Path, tmp_path: Path
) -> None:
    """Calibrate scores the images into `<output>-scores`; the search scores nothing again."""
    listed = str(images / "all.txt")
    fitted = calibrate_from_images(
        CalibrateJobSettings(
            detector=calibrating().detector or "",
            annotations=listed,
            root=str(images),
            scheme="demo",
            output=str(tmp_path / "calibrated"),
        )
    )
    taken = make_search_plan(
        calibrating(annotations=[listed], scores=str(tmp_path / "calibrated-scores"))
    )
    assert taken.judged is not None
    assert len(taken.judged.logits_N) == fitted.counts["in"] == 144
    settings = calibrating(
        annotations=[listed], scores=str(tmp_path / "calibrated-scores"), trials=2
    )
    assert tune(settings).counts["complete"] == 2
    assert tune(settings).state == "done"


@pytest.mark.parametrize(
    ("scores", "said"),
    [("nowhere", r"nowhere: no scores\.parquet there; run predict"), ("of another", "300 of 300")],
)
def test_scores_that_are_not_there_are_named(
    calibrating: Made, tmp_path: Path, scores: str, said: str
) -> None:
    detector = saved_detector(tmp_path / "other", seed=1)
    changes = {"scores": str(tmp_path / scores)} if scores == "nowhere" else {"detector": detector}
    with pytest.raises(UserError, match=said):
        tune(calibrating(**changes))


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_of_training_is_stopped_early_resumed_and_checked(
    training: Made, images: Path
) -> None:
    settings = training(
        trials=4,
        early_stopping={"first_epochs": 1, "reduction": 2},
        start={"slow": {"train.stage1.learning_rate": 0.001}, "batch": {"train.loss": "ce"}},
        robustness=str(images / "tiny.yaml"),
    )
    run = tune(settings)
    output = Path(settings.output)
    assert run.counts["trials"] == 4
    assert run.counts["complete"] >= 1
    assert run.counts["complete"] + run.counts["stopped early"] == 4
    figures = run.results["figures"]
    assert {"held_out_roc_auc", "worst_slice_roc_auc", "nll", "robustness_roc_auc"} <= set(figures)
    assert not list(output.glob("trials/**/model.safetensors"))
    assert not list(output.glob("trials/**/state.pt"))
    # The fold's figure comes out again by training with best.yaml on the fold's list.
    fold = next((output / "folds").iterdir())
    best = parse_yaml(output / "best.yaml", TrainSettings)
    assert len(read_list(best.annotations[0], SCHEME).items) == 144
    again = best.model_copy(
        update={"annotations": (str(fold / "train.txt"),), "output": str(output / "check")}
    )
    train_alone(again)
    trial = output / trial_folder(run.results["best"])
    for name in ("loss", "learning_rate"):
        assert _column(output / "check", name) == _column(trial / fold.name, name)
    judged = read_list(str(fold / "validation.txt"), SCHEME).items
    chosen = [item for item in judged if item.labels[2] in (2, 4)]
    logits = load_detector(output / "check" / "detector").logits(
        [images / item.path for item in chosen]
    )
    found = roc_auc([item.labels[0] for item in chosen], logits).value
    assert found == pytest.approx(figures["held_out_roc_auc"], abs=1e-3)
    assert f"of {found:.4f} (its slice" in (output / "best.yaml").read_text()


def _column(folder: Path, name: str) -> list[str]:
    lines = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [line[name] for line in lines]


@pytest.mark.ray
def test_a_trial_that_fails_is_named_and_ends_nothing(training: Made) -> None:
    settings = training(
        trials=2,
        space={"train.stage1.learning_rate": {"choice": [0.01, 1e30]}},
        start={"wild": {"train.stage1.learning_rate": 1e30}},
    )
    run = tune(settings)
    assert (run.counts["complete"], run.counts["failed"]) == (1, 1)
    assert "the loss is" in run.results["first_failure"]
    row = pq.read_table(Path(settings.output) / "trials.parquet").to_pylist()[1]
    assert row["state"] == "failed"
    assert row["reason"] == run.results["first_failure"]


@pytest.mark.ray
@pytest.mark.slow
def test_where_all_fail_the_first_reason_is_said(training: Made, images: Path) -> None:
    settings = training(
        trials=2,
        train={"stage1": {"learning_rate": 1e30}},
        space={"train.stage1.learning_rate": {"choice": [1e30, 1e31]}},
    )
    with pytest.raises(JobFailed, match=r"all of 2 trials failed; first: .*the loss is"):
        tune(settings)


@pytest.mark.ray
@pytest.mark.slow
def test_several_objectives_give_a_front(calibrating: Made) -> None:
    settings = calibrating(
        trials=24,
        sampler="nsga2",
        combine="pareto",
        objectives={"answered": 1.0, "answered_error": 1.0},
        space={
            "calibrate.method": {"choice": ["platt", "temperature"]},
            "calibrate.band_error": {"log_uniform": [0.01, 0.4]},
        },
    )
    run = tune(settings)
    table = pq.read_table(Path(settings.output) / "trials.parquet").to_pylist()
    front = [(r["answered"], r["answered_error"]) for r in table if r["on_front"]]
    assert len(front) > 2
    assert len(front) < 24
    assert max(answered for answered, _ in front) == run.results["values"]["answered"]
    assert "Pareto front" in (Path(settings.output) / "tune.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"train.lr": {"uniform": [0, 1]}}}, "space train.lr: no field 'lr' in train"),
        ({"space": {"output": {"uniform": [0, 1]}}}, "space output: a path starts with train or"),
        (
            {"space": {"train.stage1.learning_rate": {"uniform": [-1, 1]}}},
            "space train.stage1.learning_rate: -1.0 can't be: .*greater than 0",
        ),
        (
            {"space": {"train.architecture.backbone": {"choice": ["highpass-small", "nothing"]}}},
            "space train.architecture.backbone: nothing can't be",
        ),
        ({"train": {"target": "model"}}, "target must be origin"),
        (
            {"train": {"num_workers": 2}, "early_stopping": {"first_epochs": 1}},
            "early_stopping looks into training",
        ),
        ({"root": "nowhere"}, "nowhere: --root holds no file"),
        ({"recipe": "nothing"}, "nothing: no such file"),
    ],
)
def test_what_can_not_be_is_named_before_anything_starts(
    training: Made, changes: dict, said: str
) -> None:
    settings = training(**changes)
    with pytest.raises(UserError, match=said):
        tune(settings)
    assert not Path(settings.output).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objectives": {"auc": 1}}, "objective 'auc' is unknown"),
        ({"objectives": {"robustness_roc_auc": 1}}, "robustness must name a perturbation"),
        ({"objectives": {"nll": 0}}, "weight must be above 0"),
        ({"sampler": "nsga2"}, "nsga2 is for combine pareto"),
        ({"compare": 2}, "at least 3 seeds"),
        ({"root": None}, "kind train wants root"),
        ({"start": {"recipe": {}}}, "'recipe' names the recipe itself"),
        ({"kind": "calibrate", "detector": "d", "scores": "s"}, "no figure of kind calibrate"),
    ],
)
def test_what_does_not_go_together_is_named(training: Made, changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        training(**changes)


@pytest.mark.ray
def test_resources_that_will_never_be_are_named_at_once(training: Made) -> None:
    settings = training(gpus_per_trial=64, train={"precision": "fp32"})
    with pytest.raises(UserError, match=r"a trial asks for .*64 GPU; this cluster has at most"):
        tune(settings)
    assert not Path(settings.output).exists()


@pytest.mark.ray
@pytest.mark.slow
def test_the_comparison_is_over_seeds_and_done_once(training: Made) -> None:
    settings = training(trials=2, compare=3, start={"ce": {"train.loss": "ce"}})
    run = tune(settings)
    verdict = json.loads((Path(settings.output) / "comparison.json").read_text())
    assert len(verdict["best_values"]) == len(verdict["recipe_values"]) == 3
    assert verdict["low"] <= verdict["difference"] <= verdict["high"]
    assert "3 seeds and" in run.results["verdict"]
    runs = sorted(Path(settings.output).glob("comparison/*/**/result.json"))
    times = [path.stat().st_mtime_ns for path in runs]
    assert len(runs) == 6
    assert tune(settings).results["verdict"] == run.results["verdict"]
    assert [path.stat().st_mtime_ns for path in runs] == times


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_may_have_workers_of_ray_train(training: Made) -> None:
    settings = training(
        trials=1,
        train={"num_workers": 2},
        space={"train.stage1.learning_rate": {"log_uniform": [0.001, 0.1]}},
    )
    run = tune(settings)
    assert run.counts["complete"] == 1
    assert 0 <= run.results["figures"]["held_out_roc_auc"] <= 1


@dataclass(frozen=True)
class Nasty:
    """Trials that end in every bad way, by number."""

    def run(self, trial_context: TrialContext) -> Outcome:
        if trial_context.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if trial_context.number == 2:
            raise ValueError("no\nway")
        value = {3: math.nan, 4: None, 5: math.inf}.get(trial_context.number, 0.5)
        return Outcome({"nll": value, "brier": math.nan})

    def stopped(self, number: int) -> None:
        """Nothing is kept."""


@pytest.mark.ray
@pytest.mark.slow
def test_no_end_of_a_trial_hangs_the_study(calibrating: Made, tmp_path: Path) -> None:
    settings = calibrating(trials=7, retries=1)
    search_plan = make_search_plan(settings)
    sampler = NumberedSampler(settings)
    with open_study(LocalStore(str(tmp_path / "study")), search_plan.goal, sampler) as journal:
        search(settings, search_plan, journal, Nasty(), math.inf)
        reasons = {t.number: t.user_attrs.get("reason") for t in journal.finished}
    assert reasons == {
        0: None,
        1: "its process or machine was lost, time and again",
        2: "ValueError: no way",
        3: "nll is nan",
        4: "nll is missing",
        5: "nll is inf",
        6: None,
    }
