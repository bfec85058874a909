"""Settings of drift."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rayapp.config.paths import OutputUri, Uri
from rayapp.config.settings import JobSettings

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class DriftSettings(JobSettings):
    """Say where a day's traffic differs from what the detector was calibrated on."""

    output: OutputUri = Field("runs/drift", description="folder or s3:// prefix for the page")
    counts: Uri = Field(
        description="counts of traffic: an output of predict, or a folder where serve keeps them"
    )
    against: Uri = Field(
        description="calibrated detector, compared as the mix of its calibration's classes that "
        "lies nearest; or counts of other traffic, compared as they are (the folder of --counts: "
        "its days before; another folder: all of its days)"
    )
    day: str | None = Field(None, description="day to look at, UTC; the last with counts if none")
    days: int = Field(1, ge=1, description="so many days up to it, added up")
    marks: tuple[Uri, ...] = Field(
        (),
        description="lists of marks (gallery, page), whose real images give the rate of false "
        "positives: of those that were scored on the days looked at, where their scores tell",
    )
    scores: tuple[Uri, ...] = Field(
        (), description="outputs of predict that hold the marked images"
    )
    sampled: Literal["as-written", "uniform"] = Field(
        "as-written",
        description="how the marked images were chosen: as the lists say, or uniform: at random",
    )
    seed: int = Field(42, ge=0, description="of the draws behind p-values")

    @field_validator("marks", "scores", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("day")
    @classmethod
    def _is_a_day(cls, day: str | None) -> str | None:
        if day is not None and not _DAY.fullmatch(day):
            raise ValueError("a day is written 2026-11-29")
        return day

    @model_validator(mode="after")
    def _marks_need_scores(self) -> Self:
        if bool(self.marks) != bool(self.scores):
            raise ValueError("marks and scores go together: the marks' images, and their scores")
        return self
