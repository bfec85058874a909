"""Settings of calibrate."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings
from rayapp.dataset.suites import ProtocolName
from rayapp.models.calibration.fits import Method


class CalibrateSettings(JobSettings):
    """Fit the map from logit to probability, and the threshold and band, on calibration images."""

    detector: str = Field(description="folder or s3:// prefix of the detector")
    scores: tuple[str, ...] = Field(
        (), description="outputs of predict that hold the calibration images, or folders of them"
    )
    annotations: str = Field(description="list of the calibration images")
    root: str | None = Field(
        None, description="folder or s3:// prefix where the list's paths start"
    )
    scheme: str = Field("imaginet", description="label scheme of the list")
    method: Method | Literal["auto"] = Field(
        "platt", description="auto chooses by cross-validation"
    )
    temperature: float | None = Field(
        None, gt=0, description="this one with method temperature, instead of the fitted one"
    )
    fpr: float | None = Field(
        None, gt=0, lt=1, description="threshold at this false-positive rate; else 0.5"
    )
    band_error: float = Field(
        0.05, gt=0, lt=0.5, description="share of wrong answers outside the unsure band, at most"
    )
    against: tuple[str, ...] = Field(
        (),
        description="lists or manifests of test and training images: none may be calibrated on",
    )
    identities: str | None = Field(
        None, description="manifest with sha256 and perceptual_hash of the calibration images"
    )
    protocol: ProtocolName = Field(
        "clean", description="legacy: calibrate on test images too, as the original does"
    )

    @field_validator("scores", "against", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _temperature_is_a_method(self) -> Self:
        if self.temperature is not None and self.method != "temperature":
            raise ValueError(f"temperature goes with method temperature, not {self.method}")
        return self


class CalibrateJobSettings(ScoringSettings, CalibrateSettings):
    """Fit the map from logit to probability, and the threshold and band, on calibration images.

    Images of the suites, of `against` and of the detector's own training lists are refused.
    """

    suite: tuple[str, ...] = Field(
        (), description="suites that the detector will be measured on; calibration stays off them"
    )
    lists: str | None = Field(None, description="folder of the suites' lists; <root>/lists if none")
    guard: Literal["look", "path"] = Field(
        "look",
        description="look: compare paths, bytes and looks, which reads all images; path: paths",
    )
