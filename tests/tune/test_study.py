import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from rayapp.config.errors import UserError
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from rayapp.tune.goals import Goal
from rayapp.tune.space import Space
from rayapp.tune.study import STUDY_FILE, STUDY_NAME, Journal, NumberedSampler, open_study
from tests.tune.conftest import Made

GOAL = Goal({"nll": 1.0})


def height(values: dict) -> float:
    return len(values) + values.get("calibrate.temperature", 5.0)


def go_on(journal: Journal, space: Space, number: int) -> None:
    """So many trials, those that were cut off first."""
    waiting = journal.cut_off()
    for _ in range(number):
        trial = waiting.pop(0) if waiting else journal.study.ask()
        journal.study.tell(trial, height(space.draw(trial)))


@pytest.fixture
def space(calibrating: Made) -> Space:
    return Space(calibrating().space)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "random"])
def test_a_study_cut_off_anywhere_goes_on_as_if_it_had_not_been(
    calibrating: Made, space: Space, tmp_path: Path, sampler: str
) -> None:
    settings = calibrating(sampler=sampler)
    whole, broken = LocalStore(str(tmp_path / "whole")), LocalStore(str(tmp_path / "broken"))
    with open_study(whole, GOAL, NumberedSampler(settings)) as journal:
        go_on(journal, space, 16)
        expected = [(t.params, t.values) for t in journal.trials]
    with open_study(broken, GOAL, NumberedSampler(settings)) as journal:
        go_on(journal, space, 12)
        journal.study.ask()  # cut off before it drew anything
    with open_study(broken, GOAL, NumberedSampler(settings)) as journal:
        go_on(journal, space, 1)
        space.draw(journal.study.ask())  # cut off after it drew
    with open_study(broken, GOAL, NumberedSampler(settings)) as journal:
        assert len(journal.trials) == 14
        assert len(journal.finished) == 13
        go_on(journal, space, 3)
        assert [(t.params, t.values) for t in journal.trials] == expected
        other = NumberedSampler(calibrating(sampler=sampler, seed=1))
    with open_study(LocalStore(str(tmp_path / "other")), GOAL, other) as journal:
        go_on(journal, space, 16)
        assert [(t.params, t.values) for t in journal.trials] != expected


def test_half_a_line_never_happened(calibrating: Made, space: Space, tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        go_on(journal, space, 3)
    path = tmp_path / STUDY_FILE
    path.write_bytes(path.read_bytes() + b'{"op_code": 4, "wor')
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        go_on(journal, space, 1)
        assert len(journal.finished) == 4


def test_optunas_own_tools_open_it(calibrating: Made, space: Space, tmp_path: Path) -> None:
    with open_study(LocalStore(str(tmp_path)), GOAL, NumberedSampler(calibrating())) as journal:
        go_on(journal, space, 3)
    command = [
        "optuna",
        "trials",
        *("--study-name", STUDY_NAME, "--format", "json"),
        *("--storage-class", "JournalFileBackend", "--storage", str(tmp_path / STUDY_FILE)),
    ]
    there = Path(sys.executable).parent
    path = f"{there}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PATH": path}, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 3


def test_starting_points_stand_in_front_once(calibrating: Made, space: Space, tmp_path: Path):
    store, points = LocalStore(str(tmp_path)), {"a": {"calibrate.method": "platt"}}
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        journal.enqueue(points)
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        journal.enqueue(points | {"b": {"calibrate.method": "isotonic"}})
        go_on(journal, space, 3)
        methods = [t.params["calibrate.method"] for t in journal.trials]
        assert methods[:2] == ["platt", "isotonic"]
        assert len(methods) == 3


def test_two_searches_on_one_study_are_refused(calibrating: Made, tmp_path: Path) -> None:
    store, sampler = LocalStore(str(tmp_path)), NumberedSampler(calibrating())
    with (
        open_study(store, GOAL, sampler),
        pytest.raises(UserError, match="another search works on it"),
        open_study(store, GOAL, sampler),
    ):
        pass
    with open_study(store, GOAL, sampler):
        pass


def test_a_study_may_lie_on_s3(calibrating: Made, space: Space, s3) -> None:
    store = open_store(f"s3://{s3.bucket}/study")
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        go_on(journal, space, 2)
        journal.keep()
        go_on(journal, space, 1)  # not kept: lost with the machine
    with open_study(store, GOAL, NumberedSampler(calibrating())) as journal:
        assert [t.state for t in journal.trials] == [TrialState.COMPLETE] * 2


def test_several_values_have_their_names(calibrating: Made, tmp_path: Path) -> None:
    goal = Goal({"nll": 1.0, "answered": 1.0}, pareto=True)
    sampler = NumberedSampler(calibrating(sampler="random"))
    with open_study(LocalStore(str(tmp_path)), goal, sampler) as journal:
        assert journal.study.metric_names == ["nll", "answered"]
        directions = [direction.name for direction in journal.study.directions]
        assert directions == ["MINIMIZE", "MAXIMIZE"]
        assert isinstance(journal.study, optuna.Study)
