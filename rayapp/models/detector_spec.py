"""What a detector is, as settings: its network, how it sees images, what its outputs mean.

Nothing here imports torch: every job's settings are parsed before that.
"""

import hashlib
import json
from typing import Literal

from pydantic import Field

from rayapp.config.settings import Settings

Option = bool | int | float | str | tuple[int, ...]
# The threshold where nothing else is decided: no calibration, or no rate asked of one.
EVEN_ODDS = 0.5
Method = Literal["platt", "temperature", "bias", "beta", "isotonic"]
HeadNorm = Literal["batch", "length", "none"]
Precision = Literal["auto", "exact", "bf16"]
Channels = tuple[float, float, float]
View = Literal["centre", "five", "tiles", "resize"]


class HeadSettings(Settings):
    """The classification head on the backbone's features."""

    norm: HeadNorm = Field("batch", description="of the features: batch, length (to 1) or none")
    projection: int | None = Field(None, ge=1, description="width of a linear map before all else")
    hidden: int = Field(1024, ge=0, description="width of the hidden layer; 0: a linear probe")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden units dropped in training")
    num_outputs: int = Field(1, ge=1, description="1: a logit of synthetic; K: one a class")


class Architecture(Settings):
    """Backbone, exits and head: with the weights, all that the network is."""

    backbone: str = Field(description="highpass-small, resnet50-nodown or a timm model")
    options: dict[str, Option] = Field({}, description="keyword arguments of the backbone")
    tap_depths: tuple[float, ...] = Field(
        (), description="relative depths (0 to 1) of the sub-networks; none: the backbone alone"
    )
    head: HeadSettings = Field(HeadSettings(), description="the classification head")
    num_networks: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="networks of this kind whose logits are averaged; none: one",
    )


class Labels(Settings):
    """What the outputs mean."""

    scheme: str = Field("imaginet", description="name of the label scheme")
    column: str = Field("origin", description="the scheme's column that is predicted")
    classes: tuple[str, ...] = Field(
        ("real", "synthetic"), description="class names; of a single logit: negative, positive"
    )


class Preprocessing(Settings):
    """From the pixels of an image to what the network takes; part of the detector's hash."""

    view: View = Field(
        "centre",
        description="centre: one square crop; five: that and the corners; tiles: squares that "
        "cover the image; resize: the shorter side to size, then a centre crop. Logits of "
        "several views are averaged; images smaller than size are padded by reflection",
    )
    size: int = Field(256, ge=8, description="side of a view in pixels")
    resize_to: int | None = Field(
        None, ge=8, description="resize: what the shorter side becomes, where that is not size"
    )
    filter: Literal["bilinear", "bicubic"] | None = Field(
        None, description="resize: Pillow's filter; none: area to shrink, Lanczos to enlarge"
    )
    input_scale: float = Field(1 / 255, gt=0, description="factor on the pixel values 0 to 255")
    mean: Channels = Field(
        (0.0, 0.0, 0.0), description="subtracted after scaling; red, green, blue"
    )
    std: Channels = Field((1.0, 1.0, 1.0), description="divided by after that; red, green, blue")

    @property
    def hash(self) -> str:
        """SHA-256 of all fields in hexadecimal."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def seen_as(self, view: View, size: int) -> "Preprocessing":
        """The same under another view or size; resize_to keeps its share of the size."""
        resize_to = self.resize_to and round(self.resize_to * size / self.size)
        return self.model_copy(update={"view": view, "size": size, "resize_to": resize_to})
