"""What an adopted network is, as settings: with its weights, all that it takes to run it."""

from typing import Any, Literal

from pydantic import Field

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
