"""The recipe that a search starts from, and what trial values make of it."""

import copy
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.renamed import old_names
from rayapp.config.yaml_files import read_renamed, validated
from rayapp.models.networks import build_network
from rayapp.storage.store import LocalStore, Store
from rayapp.train.settings import TrainSettings
from rayapp.transforms.perturbations import Perturbation, load_perturbation
from rayapp.tune.settings import Dimension, TuneSettings

TRAIN, CALIBRATE, AUGMENT = "train", "calibrate", "augment"
_STAGES = ("stage1", "stage2")
# What a search of calibration may set; the rest says where the data are.
_CALIBRATE_FIELDS = (
    "method",
    "temperature",
    "fpr",
    "confidence",
    "fpr_by",
    "prevalence",
    "band_error",
)
_CROPS = ("crop", "random_resized_crop")
# Where and how the search itself places trials; no recipe's business.
_PLACED = ("output", "overwrite", "annotations", "head_annotations", "validation", "root", "scheme")


@dataclass(frozen=True)
class Recipe:
    """Settings of training, calibration and augmentation as plain data, each with every field.

    Paths name fields: `train.stage1.learning_rate`, `calibrate.method`, and, for the perturbation
    of a stage, `augment.stage1.crop_size` (side of the crops in px) and `augment.stage1.strength`
    (how often images are disturbed: the probability of each `one_of` is multiplied by it).
    """

    data: dict[str, Any]

    def value(self, path: str) -> Any:
        """The value at a path.

        Raises:
            UserError: there is no such field.
        """
        here: Any = self.data
        for at, key in enumerate(_of_now(path).split(".")):
            known = range(len(here)) if isinstance(here, list) else here
            key_here: Any = int(key) if isinstance(here, list) and key.isdecimal() else key
            if not isinstance(here, dict | list) or key_here not in known:
                names = f" (known: {', '.join(map(str, known))})" if known else ""
                within = ".".join(path.split(".")[:at])
                raise UserError(f"{path}: no field {key!r}{f' in {within}' if at else ''}{names}")
            here = here[key_here]
        return here

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """The recipe with these values at these paths."""
        data = copy.deepcopy(self.data)
        for path, value in values.items():
            self.value(path)
            *folders, last = _of_now(path).split(".")
            here: Any = data
            for key in folders:
                here = here[int(key)] if isinstance(here, list) else here[key]
            here[int(last) if isinstance(here, list) else last] = value
        return Recipe(data)

    def train_settings(self, study: Store, **placed: Any) -> TrainSettings:
        """Settings of a training run; `placed` says where its data are.

        A perturbation that differs from the recipe's is written beside the study.

        Raises:
            UserError: values that do not go together.
        """
        wanted = self.data[TRAIN] | placed
        for stage in _STAGES:
            name = wanted[stage]["perturbation"]
            changed = self.perturbation(stage)
            if changed.hash != load_perturbation(name).hash:
                wanted = wanted | {
                    stage: wanted[stage] | {"perturbation": _written(changed, study)}
                }
        return validated(TrainSettings, wanted, lambda loc: TRAIN)

    def perturbation(self, stage: str) -> Perturbation:
        """A stage's perturbation with its crop size and strength.

        It keeps its name, so that all trials draw alike.
        """
        perturbation = load_perturbation(self.data[TRAIN][stage]["perturbation"])
        side, strength = (self.data[AUGMENT][stage][name] for name in ("crop_size", "strength"))
        steps = [rule.model_dump(mode="json", exclude_unset=True) for rule in perturbation.steps]
        if side is not None:
            for step in steps:
                for crop in (c for c in _CROPS if c in step):
                    step[crop]["side"] = side
        if strength != 1:
            steps = [
                _disturbed(step, strength) for step in steps if strength or "one_of" not in step
            ]
        changed = {**perturbation.model_dump(mode="json", exclude_unset=True), "steps": steps}
        return validated(Perturbation, changed, lambda loc: f"{AUGMENT}.{stage}")

    def check(self, study: Store) -> None:
        """Build all that the recipe names, on no device.

        Raises:
            UserError: settings, perturbation, backbone or calibration that can't be.
        """
        settings = self.train_settings(study, **_nowhere())
        with torch.device("meta"):
            build_network(settings.built)
        self.calibrate_settings("/-", "/-", "/-", "/-")

    def calibrate_settings(
        self, detector: str, scores: str, annotations: str, output: str
    ) -> CalibrateSettings:
        """Settings of calibration."""
        placed = {"detector": detector, "scores": scores, "annotations": annotations}
        wanted = self.data[CALIBRATE] | placed | {"output": output}
        if wanted["method"] != "temperature":
            wanted["temperature"] = None  # of the recipe's own method, which is not this trial's
        return validated(CalibrateSettings, wanted, lambda loc: CALIBRATE)


def load_recipe(settings: TuneSettings) -> Recipe:
    """The recipe that the settings name, with their changes.

    Raises:
        UserError: no such recipe, or a wrong change.
    """
    path = resource("configs", settings.recipe)
    given = _merged(read_renamed(path, TrainSettings)[0], settings.train)
    if settings.backbone_weights:
        given["backbone_weights"] = settings.backbone_weights
    for name in _PLACED:
        if name in settings.train:
            raise UserError(f"train: {name} is set by the search itself")
    given |= {**_nowhere(), "scheme": settings.scheme}
    given["gpus_per_worker"] = int(settings.gpus_per_trial > 0)
    if "num_workers" not in settings.train:
        given["num_workers"] = 0  # a recipe's one Ray Train worker is a trial's own process
    train = validated(TrainSettings, given, lambda loc: f"recipe {settings.recipe}")
    calibrate = validated(
        CalibrateSettings,
        settings.calibrate | dict.fromkeys(("detector", "scores", "annotations", "output"), "/-"),
        lambda loc: CALIBRATE,
    )
    data = {
        TRAIN: train.model_dump(mode="json", exclude=set(_PLACED)),
        CALIBRATE: calibrate.model_dump(mode="json", include=set(_CALIBRATE_FIELDS)),
        AUGMENT: {
            stage: {"crop_size": _crop_size(load_perturbation(of.perturbation)), "strength": 1.0}
            for stage, of in ((s, getattr(train, s)) for s in _STAGES)
        },
    }
    return Recipe(data)


def whole_space(space: Mapping[str, Dimension]) -> dict[str, Dimension]:
    """The space with the paths among its values made absolute: trials run in other folders."""
    return {
        path: one.model_copy(
            update={
                "choice": one.choice and tuple(whole(path, value) for value in one.choice),
                "when": {
                    at: tuple(whole(at, v) for v in values) for at, values in one.when.items()
                },
            }
        )
        for path, one in space.items()
    }


def whole(path: str, value: Any) -> Any:
    """A text as the settings' own field at this path takes it; any other value as it is."""
    job, *folders, last = _of_now(path).split(".")
    model: Any = TuneSettings.nested_jobs.get(job)
    for key in folders:
        fields = getattr(model, "model_fields", {})
        model = fields[key].annotation if key in fields else None
    field = getattr(model, "model_fields", {}).get(last)
    if field is None or not isinstance(value, str):
        return value
    try:
        kind: Any = Annotated[field.annotation, field]
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return value  # the check of the space says what is wrong with it


def _of_now(path: str) -> str:
    """The path with the fields' names of now; a study goes on with those that it began with."""
    job, *keys = path.split(".")
    model: Any = TuneSettings.nested_jobs.get(job)
    for at, key in enumerate(keys if model else ()):
        keys[at] = old_names(model).get(key, key)
        fields = getattr(model, "model_fields", {})
        kind = fields[keys[at]].annotation if keys[at] in fields else None
        model = kind if hasattr(kind, "model_fields") else BaseModel
    return ".".join((job, *keys))


def _nowhere() -> dict[str, Any]:
    return {"output": "/-", "annotations": ["/-"], "root": "/-"}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged; anything else replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _crop_size(perturbation: Perturbation) -> int | None:
    """Side of a perturbation's crops; None where they are drawn from a range, or there are none."""
    for rule in perturbation.steps:
        side = rule.crop.side if rule.crop else None
        if side and side[0] == side[1]:
            return side[0]
        if rule.random_resized_crop:
            return rule.random_resized_crop.side
    return None


def _disturbed(step: dict[str, Any], strength: float) -> dict[str, Any]:
    if "one_of" not in step:
        return step
    likely = min(1.0, step["one_of"].get("p", 1.0) * strength)
    return {"one_of": step["one_of"] | {"p": likely}}


def _written(perturbation: Perturbation, study: Store) -> str:
    """Path of a file with the perturbation, named by its content."""
    folder = Path(study.uri("protocols"))
    if not isinstance(study, LocalStore):
        folder = Path(tempfile.gettempdir(), "imaginet-ray-protocols")
    content = perturbation.model_dump(mode="json", exclude_unset=True)
    path = folder / f"{perturbation.name}-{perturbation.hash[:12]}.yaml"
    text = "# Made by the search from the perturbation of this name.\n" + yaml.safe_dump(
        content, sort_keys=False
    )
    LocalStore(os.fspath(folder)).put(path.name, text.encode())
    return os.fspath(path)
