"""What evaluate is told: which detectors, which suites, under which protocol."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import NUM_RESAMPLES
from rayapp.config.errors import UserError
from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings, one_or_more
from rayapp.dataset.suites import FOLDER, ProtocolName, Suite, load_suite
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled
from rayapp.models.detector_spec import View

LeaveOut = Literal["generator", "model", "source"]
PLACEMENT = frozenset({"record"})  # no figure depends on it


class EvaluateSettings(JobSettings):
    """Measure detectors on suites from their stored scores: every table, with intervals."""

    detector: tuple[Uri, ...] = Field(
        min_length=1,
        description="folders or bucket prefixes of (calibrated) detectors, or "
        "hf://OWNER/NAME[@REVISION]",
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    names: tuple[str, ...] = Field(
        (), description="their names in tables; from their paths if none"
    )
    suite: tuple[Packaged, ...] = Field(
        (FOLDER,), min_length=1, description="test sets: names in configs/suites, or YAML files"
    )
    protocol: ProtocolName = Field(
        "clean",
        description="clean: each photograph once, no calibration image measured; legacy: as "
        "published, to the letter",
    )
    scores: tuple[Uri, ...] = Field((), description="outputs of predict, or folders that hold them")
    root: Uri | None = Field(
        None, description="folder or bucket prefix where the lists' paths start"
    )
    lists: Uri | None = Field(None, description="folder of the suites' lists; <root>/lists if none")
    sweeps: OutputUri | None = Field(
        None, description="folder of perturbed sets, one a protocol; for the suites robustness-*"
    )
    annotations: tuple[Uri, ...] = Field((), description="suite folder: lists of the test images")
    scheme: Packaged = Field("imaginet", description="suite folder: label scheme of the lists")
    name: str = Field("Own images", description="suite folder: name of the test set in tables")
    held_out: tuple[str, ...] = Field(
        (), description="suite folder: generators or models (names of the scheme) never trained on"
    )
    leave_out: LeaveOut | None = Field(
        None,
        description="suite folder: judge each detector on what its own training lists lack, as "
        "those of tune's folds do: families (generator), models, or sources of real images",
    )
    resample_by: tuple[str, ...] = Field(
        (),
        description="suite folder: columns of the scores or the images' manifest (prompt, source): "
        "intervals resample images that share a value as one; photographs alone if none",
    )
    published_as: tuple[str, ...] = Field(
        ("imaginet",),
        min_length=1,
        description="whose published figures stand beside each detector's: one name, or one each",
    )
    regressions: tuple[Uri, ...] = Field(
        (),
        description="known cases: lists of marks as the gallery saves them, or annotation lists; "
        "says which changed sides, and ends with code 3 where one broke or has no score",
    )
    against: Uri | None = Field(
        None,
        description="the last detector, which known cases are compared with: its folder, or an "
        "output of evaluate or predict",
    )
    same_recipe: bool = Field(
        False, description="the detectors are runs of one recipe that differ in their seed"
    )
    record: bool = Field(
        True,
        description="write what was measured into each detector's detector.json, for describe and "
        "predict to say; no hash changes",
    )
    resamples: int = Field(NUM_RESAMPLES, ge=100, description="bootstrap resamples")
    seed: int = Field(42, description="seed of the resampling, and of reals that legacy draws")

    _labelled = model_validator(mode="before")(labelled)

    @model_validator(mode="after")
    def _of_known_cases(self) -> Self:
        if self.against and not self.regressions:
            raise ValueError("against: goes with --regressions, the list of known cases")
        return self

    _several = one_or_more(
        "detector",
        "names",
        "suite",
        "scores",
        "annotations",
        "held_out",
        "resample_by",
        "published_as",
        "regressions",
    )


def load_suites(settings: EvaluateSettings) -> list[Suite]:
    """The suites by name, each once; the user's own lists in the suite folder.

    None where nothing but known cases is to be judged.
    """
    if settings.regressions and settings.suite == (FOLDER,) and not settings.annotations:
        return []
    return [_suite(name, settings) for name in dict.fromkeys(settings.suite)]


def _suite(name: str, settings: EvaluateSettings) -> Suite:
    suite = load_suite(name)
    if suite.name == FOLDER:
        if not settings.annotations:
            raise UserError("suite folder: give --annotations, the lists of the test images")
        lists = settings.annotations
        return suite.model_copy(
            update={"lists": lists, "scheme": settings.scheme, "title": settings.name}
        )
    return suite


class EvaluateJobSettings(ScoringSettings, EvaluateSettings):
    """Measure detectors on suites: what has no score is scored once, for all tables.

    Scores are kept in <output>-scores (or the first of `scores`), perturbed images in
    <output>-sweeps (or `sweeps`): another run with the same ones scores nothing again.
    """

    embedding: int = Field(
        500, ge=0, description="test images whose features the report draws; 0: none"
    )
    view: View | None = Field(
        None, description="how the detectors see images of any size; their own view if none"
    )
    view_size: int | None = Field(
        None,
        ge=8,
        description="side of a view in pixels; their own if none. The published figures of suite "
        "practical are at 448",
    )
