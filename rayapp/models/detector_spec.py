"""What a detector is, as settings: its network, how it sees images, what its outputs mean.

Nothing here imports torch: every job's settings are parsed before that.
"""

import hashlib
import json
from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.defaults import RESNET50_NODOWN
from rayapp.config.settings import Settings

Option = bool | int | float | str | tuple[int, ...]
Method = Literal["platt", "temperature", "bias", "beta", "isotonic"]
HeadNorm = Literal["batch", "length", "none"]
Pool = Literal["cls", "mean", "attention"]
Precision = Literal["auto", "exact", "bf16"]
TrustDeclared = Literal["signed", "any", "none"]
Stability = Literal["none", "web"]
Channels = tuple[float, float, float]
View = Literal["centre", "five", "tiles", "resize"]


class HeadSettings(Settings):
    """The classification head on the backbone's features."""

    norm: HeadNorm = Field("batch", description="of the features: batch, length (to 1) or none")
    projection: int | None = Field(None, ge=1, description="width of a linear map before all else")
    hidden: int = Field(1024, ge=0, description="width of the hidden layer; 0: a linear probe")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden units dropped in training")
    num_outputs: int = Field(1, ge=1, description="1: a logit of synthetic; K: one a class")
    # None, not a default of their own: the hash of a detector without them stays what it was.
    pool: Pool | None = Field(
        None,
        description="of a ViT's tokens: cls, mean of the patches, or attention over them, which is "
        "trained with the head; none: as timm pools",
    )
    layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="blocks whose tokens are pooled, side by side, from 0, or from the end with "
        "-1; none: the last",
    )

    @model_validator(mode="after")
    def _layers_are_pooled(self) -> Self:
        if self.layers is not None and self.pool is None:
            raise ValueError("layers are of the tokens that are pooled: set pool too")
        return self


class LoraSettings(Settings):
    """Adapt blocks of a network by low-rank maps beside its own, which stay (arXiv 2106.09685)."""

    rank: int = Field(8, ge=1, le=1024, description="rank of a map")
    alpha: float = Field(8.0, gt=0, description="what a map adds counts alpha / rank times")
    layers: tuple[int, ...] = Field(
        (),
        description="blocks that are adapted, counted through all stages from 0, or from the end "
        "with -1; none: all",
    )
    targets: tuple[str, ...] = Field(
        ("attn.qkv", "attn.proj"),
        min_length=1,
        description="linear maps of a block that are adapted, by the end of their name",
    )


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

    @model_validator(mode="after")
    def _one_way_to_features(self) -> Self:
        if self.head.pool is not None and self.tap_depths:
            raise ValueError("tap_depths and head.pool both say what features are: set one")
        return self


class Labels(Settings):
    """What the outputs mean."""

    scheme: str = Field("imaginet", description="name of the label scheme")
    column: str = Field("origin", description="the scheme's column that is predicted")
    classes: tuple[str, ...] = Field(
        ("real", "synthetic"), description="class names; of a single logit: negative, positive"
    )


class Processor(Settings):
    """How a published processor resizes and crops, where that is not a view of our own."""

    kernel: Literal["torch", "pillow"] = Field(description="whose resizing, to the bit")
    filter: Literal["nearest", "nearest-exact", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    resized: tuple[int, int] | None = Field(
        None, description="height and width, whatever they were"
    )
    shorter: int | None = Field(None, ge=1, description="what the shorter side becomes instead")
    longest: int | None = Field(
        None, ge=1, description="what the longer side then is at most, the shorter in proportion"
    )
    crop: tuple[int, int] | None = Field(
        None, description="height and width of the centre then cut, filled with black"
    )
    rounded: bool = Field(True, description="to whole bytes after resizing")
    bgr: bool | None = Field(None, description="whether blue comes first; none: red, as ever")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of what it gives; None: of every image another."""
        return self.crop or self.resized


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
    processor: Processor | None = Field(
        None, description="a published processor's resizing and crop; in the place of the view"
    )
    mean: Channels = Field(
        (0.0, 0.0, 0.0), description="subtracted after scaling; red, green, blue"
    )
    std: Channels = Field((1.0, 1.0, 1.0), description="divided by after that; red, green, blue")

    @property
    def hash(self) -> str:
        """SHA-256 of all fields in hexadecimal."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def as_cut(self) -> str:
        """What of it decides which pixels are cut from an image; the same says: the same views."""
        return self.model_dump_json(include={"view", "size", "resize_to", "filter", "processor"})

    @property
    def sees_tiles(self) -> bool:
        """Whether an image is seen in tiles that cover it."""
        return self.view == "tiles" and self.processor is None

    def seen_as(self, view: View, size: int) -> "Preprocessing":
        """The same under another view or size; resize_to keeps its share of the size."""
        if (view, size) == (self.view, self.size):
            return self
        resize_to = self.resize_to and round(self.resize_to * size / self.size)
        changed = {"view": view, "size": size, "resize_to": resize_to, "processor": None}
        return self.model_copy(update=changed)

    @property
    def shape_HW(self) -> tuple[int, int]:
        """Height and width of a view."""
        return (self.processor and self.processor.shape) or (self.size, self.size)


# --- published detectors --------------------------------------------------------------------------

_IMAGENET: dict[str, Channels] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LINEAR_HEAD = HeadSettings(norm="none", hidden=0)
_NODOWN = Architecture(backbone=RESNET50_NODOWN, head=LINEAR_HEAD)
_CLIP = HeadSettings(norm="length", projection=1024, hidden=0)
_VIEW = Preprocessing(**_IMAGENET)
# What each published detector is, and what it sees.
LAYOUTS = {
    "imaginet": (Architecture(backbone=RESNET50_NODOWN, tap_depths=(0.5,)), _VIEW),
    "imaginet_corvi": (_NODOWN, _VIEW),
    "corvi2022": (_NODOWN.model_copy(update={"num_networks": 2}), _VIEW),
    "grag2021": (_NODOWN, _VIEW),
    "lasted": (
        Architecture(backbone="resnet50x64_clip.openai", head=_CLIP),
        Preprocessing(size=448, **_IMAGENET),
    ),
    "commfor": (
        Architecture(backbone="vit_small_patch16_384.augreg_in21k_ft_in1k", head=LINEAR_HEAD),
        Preprocessing(view="resize", size=384, resize_to=440, filter="bilinear", **_IMAGENET),
    ),
}
