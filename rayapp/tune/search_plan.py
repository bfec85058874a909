"""From settings to what is searched: what may be wrong is found before anything starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import LabelScheme, load_scheme
from rayapp.models.folder import load_detector
from rayapp.run.record import digest
from rayapp.storage.disk import scratch_folder
from rayapp.storage.store import LocalStore, Store
from rayapp.storage.uris import open_store, read_uri
from rayapp.transforms.perturbations import load_perturbation
from rayapp.tune.folds import Fold, make_folds
from rayapp.tune.goals import Goal
from rayapp.tune.recipe import AUGMENT, CALIBRATE, TRAIN, Recipe, load_recipe, whole, whole_space
from rayapp.tune.settings import TuneSettings
from rayapp.tune.space import Space, Values
from rayapp.tune.trials.calibration import CalibrationWork, load_scored
from rayapp.tune.trials.figures import Judged
from rayapp.tune.trials.training import TrainingWork


@dataclass
class SearchPlan:
    """A search that was checked: recipe, space, goal, where it starts, and its data."""

    settings: TuneSettings
    recipe: Recipe
    space: Space
    goal: Goal
    points: Mapping[str, Values]
    inputs: Mapping[str, str]
    scheme: LabelScheme
    most_epochs: int = 0
    judged: Judged | None = None
    folds: Sequence[Fold] = field(default_factory=list)

    @property
    def num_workers(self) -> int:
        """Ray Train workers of a trial; 0: it trains in its own process."""
        if self.settings.kind == "calibrate":
            return 0
        return int(self.recipe.value(f"{TRAIN}.num_workers"))

    @property
    def training_looks(self) -> tuple[int, ...]:
        """The epochs after which a trial may be stopped."""
        stopping = self.settings.early_stopping
        return stopping.looks(self.most_epochs) if stopping else ()

    def write_folds(self, store: Store) -> None:
        """Write the folds' lists under the output."""
        if self.settings.kind == "train":
            self.folds = make_folds(self.settings, self.scheme, store)

    def calibrating(self) -> CalibrationWork:
        """What a calibration trial does."""
        assert self.judged is not None
        return CalibrationWork(self.recipe, self.judged, self.scheme)

    def training(self, store: Store) -> TrainingWork:
        """What a training trial does."""
        return TrainingWork(
            recipe=self.recipe,
            folds=tuple(self.folds),
            root=self.settings.root or "",
            scheme=self.settings.scheme,
            output=store.uri(),
            looks=self.training_looks,
            robustness=self.settings.robustness,
        )


def make_search_plan(settings: TuneSettings) -> SearchPlan:
    """The search.

    Raises:
        UserError: a field that is none, values that can't be, lists or scores that don't fit.
    """
    recipe, space = load_recipe(settings), Space(whole_space(settings.space))
    scheme = load_scheme(settings.scheme)
    allowed = (CALIBRATE,) if settings.kind == "calibrate" else (TRAIN, CALIBRATE, AUGMENT)
    for path in settings.space:
        if path.partition(".")[0] not in allowed:
            raise UserError(f"space {path}: a path starts with {' or '.join(allowed)}")
    _check_space(space, recipe)
    start = {
        name: {path: whole(path, value) for path, value in changes.items()}
        for name, changes in settings.start.items()
    }
    points = space.starting_points(recipe.value, start)
    goal = Goal(settings.objectives, settings.pareto)
    inputs = _inputs(settings)
    found = SearchPlan(settings, recipe, space, goal, points, inputs, scheme)
    if settings.kind == "calibrate":
        found.judged = _judged(settings, inputs["detector"])
        inputs["scores"] = digest(found.judged.logits_N.tobytes())
    else:
        _check_training(settings, found)
    return found


def _check_space(space: Space, recipe: Recipe) -> None:
    """Try both ends and every choice of each dimension.

    Raises:
        UserError: one that the settings refuse.
    """
    with scratch_folder() as folder:
        store = LocalStore(folder)
        for probe in space.probes(recipe.value):
            try:
                recipe.with_values(probe).check(store)
            except UserError as error:
                path, value = list(probe.items())[-1]
                raise UserError(f"space {path}: {value} can't be: {error}") from None


def _inputs(settings: TuneSettings) -> dict[str, str]:
    uris = [*settings.annotations, *settings.head_annotations]
    if settings.manifest:
        uris.append(settings.manifest)
    inputs = {uri: sha256(read_uri(uri)) for uri in uris}
    if settings.robustness:
        inputs["robustness"] = load_perturbation(settings.robustness).hash
    if settings.kind == "train":
        inputs["root"] = settings.root or ""
    else:
        assert settings.detector is not None
        inputs["detector"] = load_detector(settings.detector).hash()
    return inputs


def _judged(settings: TuneSettings, detector_hash: str) -> Judged:
    judged = load_scored(settings, detector_hash)
    if len(set(judged.labels_N.tolist())) < 2:
        raise UserError(f"{', '.join(settings.annotations)}: one origin only, nothing to calibrate")
    return judged


def _check_training(settings: TuneSettings, found: SearchPlan) -> None:
    recipe = found.recipe
    if recipe.value(f"{TRAIN}.target") != "origin":
        raise UserError("train: target must be origin; a search judges real against synthetic")
    stages = [f"{TRAIN}.{stage}.epochs" for stage in ("stage1", "stage2")]
    found.most_epochs = sum(_most(recipe, settings, path) for path in stages)
    if settings.early_stopping and found.num_workers:
        raise UserError(
            "early_stopping looks into training in the trial's process: leave train.num_workers 0"
        )
    with scratch_folder() as folder:
        make_folds(settings, found.scheme, LocalStore(folder))
    if settings.robustness:
        load_perturbation(settings.robustness)
    if next(iter(open_store(settings.root or "").list()), None) is None:
        raise UserError(f"{settings.root}: --root holds no file")


def _most(recipe: Recipe, settings: TuneSettings, path: str) -> int:
    """The largest value of a whole-number field."""
    dimension = settings.space.get(path)
    values: list[Any] = [recipe.value(path)]
    if dimension:
        values += [*(dimension.integer or ()), *(dimension.choice or ())]
    return int(max(values))
