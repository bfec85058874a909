from pathlib import Path

import numpy as np
import pytest
import torch

from rayapp.config.errors import JobFailed
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector
from rayapp.storage.store import LocalStore
from rayapp.train.data.items import TrainItem
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.training_job import Job, RankContext
from rayapp.transforms import load_perturbation
from rayapp.tune.recipe import load_recipe
from rayapp.tune.trials.contract import OutOfTime, TrialContext
from rayapp.tune.trials.fold_scores import Scorer, probe_logits
from tests.tune.conftest import Made

ANY_TIME = TrialContext(0, {}, lambda epoch, figures: None, float("inf"))


@pytest.fixture
def job(training: Made, images: Path, tmp_path: Path) -> Job:
    torch.set_num_threads(1)
    settings = load_recipe(training()).train_settings(
        LocalStore(str(tmp_path)),
        annotations=[str(images / "all.txt")],
        root=str(images),
        scheme="demo",
        output=str(tmp_path / "out"),
    )
    return make_job(settings)[0]


def scorer(job: Job, trial_context: TrialContext = ANY_TIME) -> Scorer:
    return Scorer(Engine(job).network, job, RankContext(), trial_context)


def test_scores_are_those_of_the_detector(job: Job, images: Path) -> None:
    items = list(job.stages[0].items)[:20]
    found = scorer(job)
    detector = Detector(found.network, job.spec)
    expected = detector.logits([images / item.path for item in items])
    assert np.allclose(found.logits(items), expected, atol=1e-5)
    assert found.images == 20
    assert found.images_per_s > 0
    plain = found.robustness(items, load_perturbation(str(images / "tiny.yaml")))["plain"]
    assert plain.shape == (20,)
    assert not np.allclose(plain, expected)


def test_a_probe_tells_apart_what_the_features_tell_apart(job: Job) -> None:
    items = list(job.stages[0].items)
    found = scorer(job)
    logits = probe_logits(found, items[:96], items[96:])
    targets = [item.target for item in items[96:]]
    assert roc_auc(targets, logits).value > 0.8  # by the features of an untrained network already
    fooled = [TrainItem(i.id, i.path, i.labels, 1 - i.target) for i in items[:96]]
    assert roc_auc(targets, probe_logits(found, fooled, items[96:])).value < 0.2


def test_an_image_that_can_not_be_read_is_named(job: Job) -> None:
    items = [TrainItem("gone.png", "gone.png", (0, 0, 4, 4), 0)]
    with pytest.raises(JobFailed, match=r"gone\.png can't be read"):
        scorer(job).logits(items)


def test_the_hours_end_within_a_batch(job: Job) -> None:
    late = TrialContext(0, {}, lambda epoch, figures: None, 0.0)
    with pytest.raises(OutOfTime):
        scorer(job, late).logits(list(job.stages[0].items))
