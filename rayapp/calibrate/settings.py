"""Settings of calibrate."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.paths import Packaged, Uri
from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings, one_or_more
from rayapp.dataset.marks import Sampled
from rayapp.dataset.suites import ProtocolName
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled
from rayapp.models.detector_spec import Method


class CalibrateSettings(JobSettings):
    """Fit the map from logit to probability, and the threshold and band, on calibration images."""

    detector: Uri = Field(
        description="folder or bucket prefix of the detector, or hf://OWNER/NAME[@REVISION]"
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    scores: tuple[Uri, ...] = Field(
        (), description="outputs of predict that hold the calibration images, or folders of them"
    )
    annotations: Uri | None = Field(None, description="list of the calibration images")
    reviews: tuple[Uri, ...] = Field(
        (),
        description="marks of a gallery or of the service's page (marks.csv) in the place of a "
        "list: each image counts by how it was chosen to be looked at",
    )
    sampled: Sampled = Field(
        "as-written",
        description="how the marked images were chosen: as the lists say, or uniform: at random",
    )
    root: Uri | None = Field(
        None, description="folder or bucket prefix where the list's paths start"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the list")
    method: Method | Literal["auto"] = Field(
        "platt", description="auto chooses by cross-validation"
    )
    temperature: float | None = Field(
        None, gt=0, description="this one with method temperature, instead of the fitted one"
    )
    fpr: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="threshold whose false-positive rate is at most this, promised by an exact "
        f"bound; else {EVEN_ODDS}",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="with which fpr holds")
    fpr_by: str | None = Field(
        None,
        description="column in whose every slice fpr holds: of the scheme (content), of the "
        "scores (source) or of <root>/manifest.parquet",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of synthetic images where the detector is used: probabilities shift to "
        "it; none: that of the calibration images",
    )
    band_error: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="share of wrong answers outside the unsure band, among the calibration "
        "images, at most",
    )
    against: tuple[Uri, ...] = Field(
        (), description="lists or manifests of test and training images: none may be calibrated on"
    )
    identities: Uri | None = Field(
        None, description="manifest with sha256 and perceptual_hash of the calibration images"
    )
    protocol: ProtocolName = Field(
        "clean", description="legacy: calibrate on test images too, as the original does"
    )

    _labelled = model_validator(mode="before")(labelled)

    _several = one_or_more("scores", "against", "reviews")

    @model_validator(mode="after")
    def _fields_go_together(self) -> Self:
        if (self.annotations is None) == (not self.reviews):
            raise ValueError("give annotations, a list, or reviews, the marks of one; not both")
        if self.reviews and self.method == "auto":
            raise ValueError(
                "method auto compares fits of images drawn alike; name one for reviews"
            )
        if self.temperature is not None and self.method != "temperature":
            raise ValueError(f"temperature goes with method temperature, not {self.method}")
        if self.temperature is not None and self.prevalence is not None:
            raise ValueError("prevalence shifts a fitted map; a given temperature is not fitted")
        if self.fpr_by is not None and self.fpr is None:
            raise ValueError("fpr_by goes with fpr, the rate that is to hold in every slice")
        return self


class CalibrateJobSettings(ScoringSettings, CalibrateSettings):
    """Fit the map from logit to probability, and the threshold and band, on calibration images.

    Images of the suites, of `against` and of the detector's own training lists are refused.
    """

    suite: tuple[Packaged, ...] = Field(
        (), description="suites that the detector will be measured on; calibration stays off them"
    )
    lists: Uri | None = Field(None, description="folder of the suites' lists; <root>/lists if none")
    guard: Literal["look", "path"] = Field(
        "look",
        description="look: compare paths, bytes and looks, which reads all images; path: paths",
    )
