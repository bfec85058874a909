from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayapp.models.detector import Detector
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext
from rayapp.train.validation import validation_loss

Tiny = Callable[..., TrainSettings]


def test_the_loss_is_that_of_the_detector(tiny: Tiny, data: Path) -> None:
    job, _ = make_job(tiny(validation=[str(data / "all.txt")]))
    engine = Engine(job)
    loss, failures = validation_loss(engine.network, job, RankContext())
    logits = Detector(engine.network, job.spec).logits([data / i.path for i in job.validation])
    signs = np.array([2 * item.target - 1 for item in job.validation])
    assert loss == pytest.approx(np.log1p(np.exp(-signs * logits)).mean(), abs=1e-5)
    assert not failures


def test_the_best_epoch_is_kept(tiny: Tiny, data: Path) -> None:
    # The rate is absurd, so that later epochs are worse.
    settings = tiny(validation=[str(data / "all.txt")], stage2__epochs=5, stage2__learning_rate=3.0)
    engine = Engine(make_job(settings)[0])
    losses = [figures["validation_loss"] for figures in engine.epochs()]
    assert losses[:2] == [None, None]
    assert engine.best is not None
    assert engine.best["loss"] == min(losses[2:])
    engine.network.load_state_dict(engine.best["network"])
    again, _ = validation_loss(engine.network, engine.job, RankContext())
    assert again == pytest.approx(engine.best["loss"], abs=1e-6)
