"""Settings of perturb."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import PUBLISHED_SEED
from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings

_PUBLISHED_PROTOCOL = "imaginet-test"
PlanName = Literal["clean", "legacy", "published"]


class PerturbSettings(JobSettings):
    """Make a perturbed test set: every annotated image under a protocol, as lossless WebP."""

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists, in order")
    root: Uri = Field(description="folder or s3:// prefix under which the annotated images lie")
    protocol: Packaged = Field(
        _PUBLISHED_PROTOCOL, description="a shipped protocol's name, or a YAML file"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    seed: int = Field(PUBLISHED_SEED, description="seed of all draws")
    plan: PlanName = Field(
        "clean",
        description="clean: each image once; legacy: repeats kept, as in the published lists; "
        "published: legacy with the published test set's own draws, replayed",
    )
    manifest: Uri | None = Field(
        None, description="the images' own manifest; its source, licence and group are carried over"
    )
    preview: int = Field(
        0, ge=0, le=100, description="so many images with their variants on one sheet, preview.png"
    )

    @model_validator(mode="after")
    def _published_is_fixed(self) -> Self:
        fixed = {"protocol": _PUBLISHED_PROTOCOL, "seed": PUBLISHED_SEED}
        for name, value in fixed.items() if self.plan == "published" else ():
            if getattr(self, name) != value:
                raise ValueError(f"plan published has draws of its own: leave {name} at {value}")
        return self
