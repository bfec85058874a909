"""What an adopted network is, as settings: with its weights, all that it takes to run it."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.settings import Settings


class Adopted(Settings):
    """A network of others, and how its outputs become the logit of synthetic."""

    kind: Literal["transformers", "onnx"] = Field(description="what runs it")
    classes: tuple[str, ...] = Field(min_length=1, description="names of its outputs")
    synthetic: tuple[int, ...] = Field(
        description="outputs that mean synthetic, which add up in probability; of a sole output "
        "none: it means real"
    )
    gives: Literal["softmax", "logit", "probability"] = Field(
        description="softmax: a logit a class; logit: one that stands alone; probability: as named"
    )
    config: dict[str, Any] = Field(
        {}, description="transformers: its config.json; onnx: input, output and layout"
    )

    @model_validator(mode="after")
    def _synthetic_are_among_them(self) -> Self:
        if not all(0 <= index < len(self.classes) for index in self.synthetic):
            raise ValueError(f"synthetic: {self.synthetic} of {len(self.classes)} outputs")
        if self.gives == "softmax" and not 0 < len(self.synthetic) < len(self.classes):
            raise ValueError("softmax is over classes of which some mean synthetic, and some real")
        return self
