"""Settings of perturb."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import PUBLISHED_SEED
from rayapp.config.given_images import GivenImages
from rayapp.config.paths import Packaged, Uri

_PUBLISHED = "imaginet-test"
Draws = Literal["clean", "legacy", "published"]


class PerturbSettings(GivenImages):
    """Make a perturbed test set: every image under a perturbation, as lossless WebP."""

    renamed: ClassVar[Mapping[str, str]] = {"protocol": "perturbation", "plan": "draws"}

    perturbation: Packaged = Field(
        _PUBLISHED, description="a shipped perturbation's name, or a YAML file"
    )
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
    def _consistent(self) -> Self:
        self.needs_root()
        of_lists = {
            "draws": self.draws != "clean",
            "manifest": self.manifest,
            "preview": self.preview,
        }
        for name in (name for name, given in of_lists.items() if given and self.input):
            raise ValueError(f"--{name}: goes with --annotations")
        fixed = {"perturbation": _PUBLISHED, "seed": PUBLISHED_SEED}
        for name, value in fixed.items() if self.draws == "published" else ():
            if getattr(self, name) != value:
                raise ValueError(f"draws published are fixed: leave {name} at {value}")
        return self
