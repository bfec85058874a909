"""Settings of perturb."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import PUBLISHED_SEED
from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings

_PUBLISHED = "imaginet-test"
Draws = Literal["clean", "legacy", "published"]


class PerturbSettings(JobSettings):
    """Make a perturbed test set: every annotated image under a perturbation, as lossless WebP."""

    renamed: ClassVar[Mapping[str, str]] = {"protocol": "perturbation", "plan": "draws"}

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists, in order")
    root: Uri = Field(description="folder or bucket prefix under which the annotated images lie")
    perturbation: Packaged = Field(
        _PUBLISHED, description="a shipped perturbation's name, or a YAML file"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    seed: int = Field(PUBLISHED_SEED, description="seed of all draws")
    draws: Draws = Field(
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
        fixed = {"perturbation": _PUBLISHED, "seed": PUBLISHED_SEED}
        for name, value in fixed.items() if self.draws == "published" else ():
            if getattr(self, name) != value:
                raise ValueError(f"draws published are fixed: leave {name} at {value}")
        return self
