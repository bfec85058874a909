"""Settings of the demo."""

from typing import Any, Literal

from pydantic import Field, model_validator

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings

# The second part: the first one's results do not depend on it.
BEYOND = frozenset({"catalogue", "fetched", "realset", "web"})
AUTOENCODER = "taesd"
REAL, PARTNERS = "Real photographs, real generators", f"Partners by {AUTOENCODER}"


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
    realset: Uri | None = Field(
        None,
        description="folder of real and generated images, in any layout that annotate recognises, "
        "such as real/SOURCE and synthetic/FAMILY: the detector is judged on them too",
    )
    web: bool = Field(
        False,
        description="fetch Community Forensics and an autoencoder, adapt the first to photographs "
        "and their reconstructions, and judge the three detectors side by side",
    )
    fetched: OutputUri = Field("runs/weights/fetched", description="where fetched files go")
    catalogue: Packaged = Field("sources", description="catalogue, by name or file")
    loss: Literal["selfcon", "supcon", "ce"] = Field("selfcon", description="of training")
    seed: int = Field(42, description="seed of everything that is drawn")
    tiny: bool = Field(False, description="a run of a minute, whose figures mean nothing")

    @model_validator(mode="before")
    @classmethod
    def _tiny_lies_apart(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("tiny") and "output" not in given:
            return {**given, "output": "runs/demo-tiny"}
        return given
