from typing import Any

import optuna
import pytest

from rayapp.config.errors import UserError
from rayapp.tune.settings import Dimension
from rayapp.tune.space import Space

RECIPE = {"lr": 0.01, "loss": "selfcon", "tau": 0.07, "taps": [0.5], "size": 32}


def space(**dimensions: Any) -> Space:
    return Space({name: Dimension(**one) for name, one in dimensions.items()})


def field(path: str) -> Any:
    if path not in RECIPE:
        raise UserError(f"{path}: no field {path!r}")
    return RECIPE[path]


WHOLE = {
    "lr": {"log_uniform": [1e-4, 1e-1]},
    "loss": {"choice": ["selfcon", "ce"]},
    "tau": {"uniform": [0.05, 0.5], "when": {"loss": "selfcon"}},
    "taps": {"choice": [[], [0.5], [0.25, 0.5]]},
    "size": {"integer": [16, 64], "step": 16},
}


def test_draws_lie_inside_and_a_condition_holds() -> None:
    found = space(**WHOLE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [found.draw(study.ask()) for _ in range(200)]
    assert {one["loss"] for one in drawn} == {"selfcon", "ce"}
    assert {tuple(one["taps"]) for one in drawn} == {(), (0.5,), (0.25, 0.5)}
    assert {one["size"] for one in drawn} == {16, 32, 48, 64}
    for one in drawn:
        assert 1e-4 <= one["lr"] <= 1e-1
        assert ("tau" in one) == (one["loss"] == "selfcon")
    # Log-uniform: a third in each of its three decades.
    assert sum(one["lr"] < 1e-3 for one in drawn) == pytest.approx(200 / 3, abs=20)


def test_stored_values_come_back_as_they_were() -> None:
    found = space(**WHOLE)
    study = optuna.create_study()
    trial = study.ask()
    values = found.draw(trial)
    study.tell(trial, 0.0)
    assert found.values(study.trials[0].params) == values


def test_the_recipe_comes_first_and_is_complete() -> None:
    points = space(**WHOLE).starting_points(field, {"ce": {"loss": "ce"}, "same": {"lr": 0.01}})
    assert list(points) == ["recipe", "ce"]
    assert points["recipe"] == {**RECIPE, "taps": "[0.5]"}
    assert points["ce"] == {"lr": 0.01, "loss": "ce", "taps": "[0.5]", "size": 32}


@pytest.mark.parametrize(
    ("dimensions", "start", "said"),
    [
        ({"lr": {"uniform": [0.1, 1]}}, {}, "space lr: the recipe's own value 0.01 is not in it"),
        ({"size": {"integer": [10, 64], "step": 5}}, {}, "space size: the recipe's own value 32"),
        ({"loss": {"choice": ["ce"]}}, {}, "space loss: the recipe's own value selfcon"),
        ({"lr": {"uniform": [0, 1]}}, {"p": {"lr": 2}}, "space lr: start p's value 2 is not in it"),
        ({"lr": {"uniform": [0, 1]}}, {"p": {"x": 2}}, "start p: x is not in the space"),
    ],
)
def test_a_starting_point_outside_is_named(dimensions: Any, start: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(**dimensions).starting_points(field, start)


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ({"lx": {"uniform": [0, 1]}}, "space lx: no field"),
        (
            {"tau": {"uniform": [0, 1], "when": {"loss": "ce"}}, "loss": {"choice": ["ce"]}},
            "space tau: when names loss, which must stand before it",
        ),
        (
            {"loss": {"choice": ["ce"]}, "tau": {"uniform": [0, 1], "when": {"loss": "mse"}}},
            "space tau: when loss is mse, which it never is",
        ),
    ],
)
def test_a_wrong_dimension_is_named(dimensions: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(**dimensions).probes(field)


def test_probes_touch_every_end_under_its_condition() -> None:
    probes = space(**WHOLE).probes(field)
    assert {"lr": 1e-4} in probes
    assert {"lr": 1e-1} in probes
    assert {"loss": "selfcon", "tau": 0.5} in probes
    assert {"taps": []} in probes
    assert {"size": 64} in probes


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({}, "exactly one of"),
        ({"uniform": [0, 1], "choice": [1]}, "exactly one of"),
        ({"uniform": [1, 1]}, "1.0 is not below 1.0"),
        ({"log_uniform": [0, 1]}, "has no logarithm"),
        ({"uniform": [0, 1], "step": 2}, "step goes with integer"),
    ],
)
def test_a_dimension_is_one_kind(dimension: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Dimension(**dimension)
