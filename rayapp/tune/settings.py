"""What a search is made of: what is searched, what is wanted, and where it runs."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings, Settings
from rayapp.train.settings import TrainSettings
from rayapp.tune.goals import FIGURES

RECIPE = "recipe"  # the starting point that is the recipe itself
LeaveOut = Literal["generator", "model", "source"]
_PUBLISHED = frozenset({"imaginet-selfcon"})  # recipes that repeat a published training


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


class Dimension(Settings):
    """One field that is searched: exactly one of uniform, log_uniform, integer and choice."""

    uniform: tuple[float, float] | None = Field(None, description="any number from low to high")
    log_uniform: tuple[float, float] | None = Field(
        None, description="any number from low to high, its logarithm evenly"
    )
    integer: tuple[int, int] | None = Field(None, description="a whole number, both ends included")
    choice: tuple[Any, ...] | None = Field(None, min_length=1, description="one of these")
    step: int = Field(1, ge=1, description="between the whole numbers")
    when: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_listed)]] = Field(
        {}, description="only where a field named above has one of these values"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("uniform", "log_uniform", "integer", "choice")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(kinds)}")
        if given[0] != "choice":
            low, high = getattr(self, given[0])
            if low >= high:
                raise ValueError(f"{given[0]}: {low} is not below {high}")
            if given[0] == "log_uniform" and low <= 0:
                raise ValueError(f"log_uniform: {low} has no logarithm; start above 0")
        if self.step > 1 and given[0] != "integer":
            raise ValueError("step goes with integer")
        return self


class EarlyStopping(Settings):
    """Stop what is behind (ASHA, Li et al., MLSys 2020): a look after some epochs, rarer later."""

    first_epochs: int = Field(ge=1, description="epochs, of both stages together, before any stop")
    reduction: float = Field(
        3.0, gt=1, description="one in so many goes on, and so many times the epochs to the next"
    )

    def looks(self, most_epochs: int) -> tuple[int, ...]:
        """The epochs after which a trial may be stopped."""
        found, epoch = [], float(self.first_epochs)
        while epoch < most_epochs:
            found.append(math.ceil(epoch - 1e-9))
            epoch *= self.reduction
        return tuple(found)


class TuneSettings(JobSettings):
    """Search settings of training or calibration; best.yaml holds what was found."""

    renamed: ClassVar[Mapping[str, str]] = {"concurrent": "num_trials_at_once"}
    nested_jobs: ClassVar[Mapping[str, type[BaseModel]]] = {
        "train": TrainSettings,
        "calibrate": CalibrateSettings,
    }

    kind: Literal["train", "calibrate"] = Field(
        "train", description="train and judge a detector a trial, or calibrate stored scores"
    )
    trials: int = Field(50, ge=1, description="trials of the whole study; more of them later go on")
    hours: float | None = Field(
        None,
        gt=0,
        description="end by then, trials kept as they stand (but those of several Ray Train "
        "workers end first); the same command goes on",
    )
    space: dict[str, Dimension] = Field(min_length=1, description="field: what it may be")
    start: dict[str, dict[str, Any]] = Field(
        {}, description="name: values to try early; the recipe itself always comes first"
    )
    objectives: dict[str, float] = Field(
        {"held_out_roc_auc": 1.0}, min_length=1, description="figure: weight"
    )
    combine: Literal["weighted", "pareto"] = Field(
        "weighted", description="several objectives: their weighted sum, or their Pareto front"
    )
    sampler: Literal["tpe", "gp", "nsga2", "random"] = Field(
        "tpe", description="Optuna's sampler; nsga2 for a Pareto front"
    )
    early_stopping: EarlyStopping | None = Field(None, description="of training trials")
    seed: int = Field(42, description="seed of the search; trials train with the recipe's own")
    compare: int = Field(
        0, ge=0, description="after the search, train best and recipe with so many new seeds"
    )

    recipe: Packaged = Field(
        "demo", description="training: a shipped recipe's name, or a YAML file"
    )
    train: dict[str, Any] = Field({}, description="training: changes to the recipe")
    backbone_weights: Uri | None = Field(
        None, description="training: file of pretrained weights; see train"
    )
    annotations: tuple[Uri, ...] = Field(
        min_length=1, description="training lists; or lists of the calibration images"
    )
    head_annotations: tuple[Uri, ...] = Field((), description="training: lists of stage 2")
    root: Uri | None = Field(None, description="training: folder or bucket prefix of the images")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    manifest: Uri | None = Field(
        None, description="training: the images' manifest; images of one group stay together"
    )
    leave_out: LeaveOut = Field(
        "generator",
        description="training: what a fold holds out: a family of generators (the column "
        "generator), one model of a family, or one source of real images (of the manifest)",
    )
    folds: tuple[str, ...] = Field(
        (), description="training: names of what is held out, one a fold; every one where none"
    )
    fold_images: int = Field(2000, ge=20, description="training: images to judge a fold by, most")
    robustness: Packaged | None = Field(
        None, description="training: perturbation whose variants the robustness is the mean over"
    )

    detector: Uri | None = Field(None, description="calibration: the detector's folder")
    scores: Uri | None = Field(
        None, description="calibration: output of predict, or calibrate's own OUTPUT-scores"
    )
    calibrate: dict[str, Any] = Field({}, description="changes to the settings of calibration")

    num_trials_at_once: int = Field(1, ge=1, description="trials side by side")
    cpus_per_trial: float = Field(1.0, gt=0, description="CPUs that Ray reserves for a trial")
    gpus_per_trial: float = Field(0.0, ge=0, description="GPUs of a trial, or a share of one")
    driver_resource: str | None = Field(
        None,
        description="resource of nodes that stay: trials that start Ray Train workers sit there",
    )
    retries: int = Field(3, ge=0, description="of a trial whose process or machine was lost")

    @model_validator(mode="after")
    def _objectives_are_known(self) -> Self:
        for name, weight in self.objectives.items():
            if name not in FIGURES:
                raise ValueError(f"objective {name!r} is unknown (known: {', '.join(FIGURES)})")
            if self.kind not in FIGURES[name].kinds:
                raise ValueError(f"objective {name} is no figure of kind {self.kind}")
            if weight <= 0:
                raise ValueError(f"objective {name}: its weight must be above 0")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if "robustness_roc_auc" in self.objectives and self.robustness is None:
            raise ValueError("objective robustness_roc_auc: robustness must name a perturbation")
        if self.pareto and self.early_stopping:
            raise ValueError(
                "early_stopping judges by one value: combine weighted, or leave it out"
            )
        if self.sampler == "nsga2" and not self.pareto:
            raise ValueError("sampler nsga2 is for combine pareto with several objectives")
        if self.kind == "calibrate" and self.early_stopping:
            raise ValueError("early_stopping: a calibration trial has no epochs")
        wanted = ("root",) if self.kind == "train" else ("detector", "scores")
        for name in wanted:
            if getattr(self, name) is None:
                raise ValueError(f"kind {self.kind} wants {name}")
        if self.leave_out == "source" and self.manifest is None:
            raise ValueError("leave_out source: manifest must name each image's source")
        if self.kind == "calibrate" and len(self.annotations) > 1:
            raise ValueError("annotations: calibration takes one list")
        if self.compare in (1, 2):
            raise ValueError("compare: an interval wants at least 3 seeds")
        if RECIPE in self.start:
            raise ValueError(f"start: {RECIPE!r} names the recipe itself; name yours otherwise")
        return self

    @property
    def recipe_name(self) -> str:
        """What the recipe is called: published where it is such a one, and unchanged."""
        published = self.kind == "train" and self.recipe in _PUBLISHED and not self.train
        return "published recipe" if published else "recipe"

    @property
    def pareto(self) -> bool:
        """Whether several objectives are wanted at once."""
        return self.combine == "pareto" and len(self.objectives) > 1
