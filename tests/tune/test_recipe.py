from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_yaml, validated
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from rayapp.train.settings import TrainSettings
from rayapp.transforms import load_perturbation
from rayapp.tune.recipe import load_recipe
from rayapp.tune.search_plan import make_search_plan
from rayapp.tune.settings import TuneSettings
from rayapp.tune.space import Space
from tests.tune.conftest import Made

PLACED = {"annotations": ["a"], "root": "r", "output": "o", "scheme": "demo"}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(str(tmp_path / "study"))


def built(training: Made, store: LocalStore, values: dict, **changes) -> TrainSettings:
    return load_recipe(training(**changes)).with_values(values).train_settings(store, **PLACED)


def test_values_land_in_their_fields(training: Made, store: LocalStore) -> None:
    settings = built(
        training,
        store,
        {"train.stage1.learning_rate": 0.5, "train.weights.1": 0.25, "train.loss": "ce"},
    )
    assert settings.stage1.learning_rate == 0.5
    assert settings.weights == (1.0, 0.25)
    assert settings.loss == "ce"
    assert settings.num_workers == 0
    assert settings.stage2.learning_rate == 0.01


def test_changes_to_the_recipe_are_merged(training: Made, store: LocalStore) -> None:
    settings = built(training, store, {}, train={"stage1": {"epochs": 7}})
    assert (settings.stage1.epochs, settings.stage1.batch_size) == (7, 16)


def test_crop_and_strength_make_a_perturbation_of_the_same_name(
    training: Made, store: LocalStore
) -> None:
    recipe = load_recipe(training())
    assert recipe.value("augment.stage1.crop_size") == 16
    values = {"augment.stage1.crop_size": 12, "augment.stage1.strength": 0.5}
    settings = recipe.with_values(values).train_settings(store, **PLACED)
    changed = load_perturbation(settings.stage1.perturbation)
    assert settings.stage1.perturbation.startswith(store.uri("protocols"))
    assert changed.name == "tiny"
    assert changed.steps[0].crop.side == (12, 12)
    assert changed.steps[1].one_of.p == 0.25
    assert settings.stage2.perturbation == built(training, store, {}).stage2.perturbation


def test_without_strength_nothing_is_disturbed(training: Made, store: LocalStore) -> None:
    settings = built(training, store, {"augment.stage2.strength": 0})
    steps = load_perturbation(settings.stage2.perturbation).steps
    assert [next(iter(step.model_fields_set)) for step in steps] == ["crop", "flip"]
    doubled = built(training, store, {"augment.stage2.strength": 3})
    assert load_perturbation(doubled.stage2.perturbation).steps[1].one_of.p == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("train.stage1.learning_rat", "no field 'learning_rat' in train.stage1"),
        ("train.weights.2", "no field '2' in train.weights"),
        ("trains.loss", "no field 'trains'"),
        ("train.output", "no field 'output' in train"),
        ("calibrate.detector", "no field 'detector' in calibrate"),
    ],
)
def test_a_field_that_is_none_is_named(training: Made, path: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe(training()).value(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"train.stage1.learning_rate": -1},
            "train: stage1.learning_rate: input should be greater",
        ),
        ({"train.architecture.backbone": "none-such"}, "none-such"),
        ({"train.stage1.perturbation": "none-such"}, "none-such: no such file"),
        ({"calibrate.method": "magic"}, "calibrate: method"),
        ({"augment.stage1.crop_size": 0}, "augment.stage1"),
    ],
)
def test_values_that_can_not_be_are_refused(training: Made, store, values, said) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe(training()).with_values(values).check(store)


def test_a_temperature_belongs_to_its_method(calibrating: Made) -> None:
    recipe = load_recipe(calibrating(calibrate={"method": "temperature", "temperature": 2.0}))
    where = ("-", "-", "-", "-")
    assert recipe.calibrate_settings(*where).temperature == 2.0
    other = recipe.with_values({"calibrate.method": "platt"})
    assert other.calibrate_settings(*where).temperature is None


def test_where_data_lie_is_the_searchs_business(training: Made) -> None:
    with pytest.raises(UserError, match="train: root is set by the search itself"):
        load_recipe(training(train={"root": "x"}))


def test_an_s3_study_keeps_its_perturbations_on_this_machine(training: Made, s3) -> None:
    store = open_store(f"s3://{s3.bucket}/study")
    recipe = load_recipe(training()).with_values({"augment.stage1.strength": 0.25})
    path = recipe.train_settings(store, **PLACED).stage1.perturbation
    assert load_perturbation(path).steps[1].one_of.p == 0.125


@pytest.mark.parametrize("name", ["tune-demo", "tune-imaginet", "tune-calibration"])
def test_shipped_searches_start_at_their_recipe(name: str) -> None:
    wanted = read_yaml(resource("configs", name))[0]
    there = {"output": "-", "annotations": ["-"], "root": "-", "detector": "-", "scores": "-"}
    settings = validated(TuneSettings, wanted | there, str)
    recipe, space = load_recipe(settings), Space(settings.space)
    assert "recipe" in space.starting_points(recipe.value, settings.start)
    assert len(space.probes(recipe.value)) >= 2 * len(space.dimensions) - 1


def test_paths_of_a_search_are_whole_before_a_trial_sees_them(
    training: Made, images: Path, monkeypatch: pytest.MonkeyPatch, store: LocalStore
) -> None:
    """Trials run in folders of their own."""
    monkeypatch.chdir(images)
    perturbation, other = "train.stage1.perturbation", "train.stage1.learning_rate"
    space = {
        perturbation: {"choice": ["./tiny.yaml", "demo-train"]},
        other: {"uniform": [0.0001, 0.1], "when": {perturbation: "tiny.yaml"}},
    }
    changes = {"stage1": {"perturbation": "tiny.yaml"}, "stage2": {"perturbation": "./tiny.yaml"}}
    start = {
        "named": {perturbation: "demo-train"},
        "file": {perturbation: "tiny.yaml", other: 0.05},
    }
    settings = training(recipe="recipe.yaml", train=changes, space=space, start=start)
    search_plan = make_search_plan(settings)
    whole = str(images / "tiny.yaml")
    assert search_plan.space.dimensions[perturbation].choice == (whole, "demo-train")
    assert search_plan.space.dimensions[other].when == {perturbation: (whole,)}
    assert search_plan.points["named"] == {perturbation: "demo-train"}
    assert search_plan.points["file"] == {perturbation: whole, other: 0.05}
    assert search_plan.recipe.value("train.stage2.perturbation") == whole
    monkeypatch.chdir(store.root.rpartition("/")[0])
    assert search_plan.recipe.train_settings(store, **PLACED).stage1.perturbation == whole
