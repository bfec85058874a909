"""Figures that others published, with their sources (`evaluate/published.yaml`)."""

import functools
from pathlib import Path

from pydantic import Field

from rayapp.config.errors import UserError
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml

MEAN = "Mean"
_FILE = (
    Path(__file__).parents[1] / "evaluate" / "published.yaml"
)  # data of that room; pages show it too

Pair = tuple[float | None, float | None]


class PublishedSuite(Settings):
    """One table: detector → slice → (accuracy as the table gives it, ROC AUC)."""

    source: str = Field(description="where it was printed")
    remarks: tuple[str, ...] = Field((), description="what is odd about it")
    figures: dict[str, dict[str, Pair]] = Field(description="detector: slice: pair of figures")


class InferenceTime(Settings):
    """The original's table of inference time."""

    source: str = Field(description="where it was printed")
    about: str = Field(description="what was timed, in which unit, on what")
    milliseconds: dict[str, float] = Field(description="detector: milliseconds an image")


class Published(Settings):
    """All published figures that are known."""

    detectors: dict[str, str] = Field(description="short name: detector")
    sources: dict[str, str] = Field(description="short name: publication")
    suites: dict[str, PublishedSuite] = Field(description="table by name")
    inference_time: InferenceTime = Field(description="speed, as published")

    def pairs(self, suite: str | None, detector: str) -> dict[str, Pair]:
        """Slice → figures of one detector; empty where nothing was published.

        Raises:
            UserError: no such detector.
        """
        if detector not in self.detectors:
            known = ", ".join(self.detectors)
            raise UserError(f"published detector {detector!r} is unknown (known: {known})")
        table = self.suites.get(suite or "")
        return dict(table.figures.get(detector, {})) if table else {}


@functools.cache
def load_published() -> Published:
    """The published figures that travel with the package."""
    return parse_yaml(_FILE, Published)
