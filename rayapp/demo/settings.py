"""Settings of the demo."""

from typing import Any, Literal

from pydantic import Field, model_validator

from rayapp.config.paths import OutputUri, Uri
from rayapp.config.settings import JobSettings


class DemoDataSettings(JobSettings):
    """Make the demo's data set: photographs, and the same crops through tiny generators."""

    photos: Uri | None = Field(None, description="folder of own photographs instead of ours")
    seed: int = Field(42, description="seed of the generators' training")
    generator_steps: int = Field(1000, ge=1, description="training steps of each generator")
    crops_per_photograph: int = Field(24, ge=1, description="crops of 256 px, at most")


class DemoSettings(JobSettings):
    """Run the whole pipeline on real photographs: data, perturb, train, predict, …, report."""

    output: OutputUri = Field(
        "runs/demo",
        description="folder or bucket prefix for the results; runs/demo-tiny if none, with --tiny",
    )
    photos: Uri | None = Field(None, description="folder of own photographs instead of ours")
    loss: Literal["selfcon", "supcon", "ce"] = Field("selfcon", description="of training")
    seed: int = Field(42, description="seed of everything that is drawn")
    tiny: bool = Field(False, description="a run of a minute, whose figures mean nothing")

    @model_validator(mode="before")
    @classmethod
    def _tiny_lies_apart(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("tiny") and "output" not in given:
            return {**given, "output": "runs/demo-tiny"}
        return given
