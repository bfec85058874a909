"""Settings of fuse."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.paths import Packaged, Uri
from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings, one_or_more
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled
from rayapp.models.detector_spec import Method


class FuseSettings(ScoringSettings, JobSettings):
    """Make one detector of several: fitted on scores of a list, and calibrated as a whole."""

    detectors: tuple[Uri, ...] = Field(min_length=2, description="folders of the detectors")
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    names: tuple[str, ...] = Field(
        (), description="of them in tables; the shortest ends of their paths that differ if none"
    )
    annotations: Uri = Field(
        description="list of the images that the fusion is fitted and calibrated on: none that a "
        "detector was trained on, none that it will be measured on"
    )
    root: Uri | None = Field(
        None,
        description="folder or bucket prefix where the list's paths start; images without "
        "a score are then scored",
    )
    scores: tuple[Uri, ...] = Field(
        (), description="outputs of predict that hold the images, or folders of them"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the list")
    guard: Literal["look", "path"] = Field(
        "look",
        description="how images that a detector was trained on are known: look: by path, bytes and "
        "look, which reads all images; path: by path",
    )
    fusion: Literal["mean", "weighted", "stacking"] = Field(
        "stacking",
        description="of the detectors' log-odds, each by a Platt fit of its own: mean; mean "
        "weighted by 2 · ROC AUC - 1; stacking: logistic regression with weights of 0 or more",
    )
    disagree_above: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="unsure, because detectors disagree, where the highest of their probabilities "
        "is more than this above the lowest; 1: never",
    )
    method: Method | Literal["auto"] = Field(
        "platt", description="calibration of the whole; auto chooses by cross-validation"
    )
    fpr: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="threshold whose false-positive rate is at most this, promised by an exact "
        f"bound; else {EVEN_ODDS}",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="with which fpr holds")
    band_error: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="share of wrong answers outside the unsure band, among the list's images, at "
        "most",
    )

    _labelled = model_validator(mode="before")(labelled)
    _several = one_or_more("scores")

    @model_validator(mode="after")
    def _fields_go_together(self) -> Self:
        if not self.root and not self.scores:
            raise ValueError(
                "give --root, the folder of the images, or --scores, where they are scored"
            )
        if self.names and len(self.names) != len(self.detectors):
            raise ValueError(f"names: {len(self.names)} for {len(self.detectors)} detectors")
        return self
