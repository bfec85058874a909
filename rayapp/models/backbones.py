"""Backbones under one contract, timm's: `forward_intermediates`, `forward_head`, `feature_info`.

Shapes: N images · C channels or features · H W.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from rayapp.config.defaults import RESNET50_NODOWN
from rayapp.config.errors import UserError
from rayapp.models.highpass import HighPassNetwork
from rayapp.models.pretrained import check_activation, check_names, overlay_from_hub, unfetched

if TYPE_CHECKING:
    from rayapp.models.detector_spec import Option
    from rayapp.models.pretrained import Weights

HIGHPASS_SMALL = "highpass-small"

# The weights that ImagiNet and GRIP start from (torchvision IMAGENET1K_V2); timm's plain `resnet50`
# names other ones.
_NODOWN_PARENT = "resnet50.tv2_in1k"
_MOST_OF_AN_OPTION = 16_384  # such as a width or a number of blocks
_FILTERS = ("bilinear", "bicubic")
# What create_model would read from elsewhere, or what the rest of the product counts on.
_RESERVED_OPTIONS = {
    "cache_dir",
    "checkpoint_path",
    "features_only",
    "num_classes",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
}


class Backbone(nn.Module):
    """A network that gives its final pooled features and feature maps on the way to them.

    Args:
        model: follows timm's contract.
        tap_depths: relative depths in [0, 1] of the feature maps to give, 0 the first, 1 the last.
    """

    def __init__(self, model: nn.Module, tap_depths: Sequence[float] = ()) -> None:
        super().__init__()
        self.model = model
        channels = [info["num_chs"] for info in cast(Any, model.feature_info)]
        # Relative, because families offer 4, 5, 6 or 12 feature maps.
        self.tap_indices = sorted({round(depth * (len(channels) - 1)) for depth in tap_depths})
        if len(self.tap_indices) < len(tap_depths) or not all(0 <= d <= 1 for d in tap_depths):
            raise UserError(
                f"tap_depths {list(tap_depths)}: give relative depths from 0 to 1 that fall on "
                f"different ones of the {len(channels)} feature maps"
            )
        self.tap_channels: list[int] = [channels[index] for index in self.tap_indices]
        self.num_features = cast(int, model.head_hidden_size)

    def forward(self, images_NCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps [N, C, H, W] at the taps, shallow first, and pooled features [N, C]."""
        model = cast(Any, self.model)
        if not self.tap_indices:
            return [], self.features(images_NCHW)
        final, maps = model.forward_intermediates(
            images_NCHW, indices=self.tap_indices, output_fmt="NCHW"
        )
        return maps, model.forward_head(final, pre_logits=True)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """Pooled features [N, C] alone."""
        model = cast(Any, self.model)
        return cast(
            Tensor, model.forward_head(model.forward_features(images_NCHW), pre_logits=True)
        )

    def tokens(self, images_NCHW: Tensor, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Class tokens [N, F] and patch tokens [N, gh, gw, F] of a ViT's blocks, side by side.

        Each block's tokens pass the final norm. A ViT without a class token gives [N, 0].

        Raises:
            UserError: no ViT, or no such block.
        """
        model = cast(Any, self.model)
        if not hasattr(model, "num_prefix_tokens") or not hasattr(model, "blocks"):
            raise UserError("head.pool wants a ViT of timm's, which has tokens")
        try:
            found = model.forward_intermediates(
                images_NCHW,
                indices=list(layers),
                return_prefix_tokens=True,
                norm=True,
                stop_early=True,
                intermediates_only=True,
            )
        except AssertionError:
            raise UserError(
                f"head.layers {list(layers)}: the backbone has {len(model.blocks)} blocks"
            ) from None
        if not model.num_prefix_tokens:
            found = [
                (maps_NCHW, images_NCHW.new_zeros(len(images_NCHW), 1, 0)) for maps_NCHW in found
            ]
        patches = torch.cat([maps_NCHW for maps_NCHW, _ in found], 1).permute(0, 2, 3, 1)
        return torch.cat([prefix[:, 0] for _, prefix in found], 1), patches

    def beyond(self, layers: Sequence[int]) -> list[nn.Parameter]:
        """Weights of a ViT that have no say in the tokens of these blocks."""
        num_blocks = len(cast(Any, self.model).blocks)
        last = max(layer % num_blocks for layer in layers)
        above = tuple(f"blocks.{block}." for block in range(last + 1, num_blocks))
        ends = (*above, "fc_norm.", "attn_pool.", "head.")
        return [p for name, p in self.model.named_parameters() if name.startswith(ends)]

    def blank_image(self, device: str) -> Tensor:
        """An image [1, 3, H, W] of the size that a ViT was built for; of 224 px for others."""
        built_for = getattr(getattr(self.model, "patch_embed", None), "img_size", None)
        height, width = built_for or (224, 224)
        return torch.zeros(1, 3, height, width, device=device)

    def strides(self) -> dict[str, tuple[int, ...]]:
        """Every module that steps by more than one pixel, and its step: no state dict tells it."""
        steps = {}
        for name, module in self.model.named_modules():
            # Of layers only: blocks repeat the stride of a layer inside them.
            stride = 1 if any(module.children()) else getattr(module, "stride", 1)
            stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
            if max(stride) > 1:
                steps[name] = stride
        return steps


def create_backbone(
    name: str,
    pretrained: bool = False,
    *,
    tap_depths: Sequence[float] = (),
    options: Mapping[str, Option] | None = None,
    weights: Weights | None = None,
) -> Backbone:
    """Backbone `highpass-small`, `resnet50-nodown` or any timm model, with maps at `tap_depths`.

    `resnet50-nodown` is the ResNet-50 of Gragnaniello et al. (ICME 2021, arXiv 2104.02617) that
    keeps the first stride and the max-pool at 1, so that it ends at an eighth of the resolution.

    Args:
        name: as above; timm's with or without the tag of its weights.
        pretrained: with timm's published weights, from the network or its local cache.
        tap_depths: see Backbone.
        options: keyword arguments of the network, for timm's those of `create_model`.
        weights: pretrained weights that are at hand, instead of timm's.

    Raises:
        UserError: unknown name or option; no weights to be had, or those of another network.
    """
    options = dict(options or {})
    check_options(options)
    with _built_with(name, options):
        if name == HIGHPASS_SMALL:
            model: nn.Module = _highpass_small(pretrained or weights is not None, options)
        elif name == RESNET50_NODOWN:
            parent = _timm_model(_NODOWN_PARENT, pretrained, options, weights)
            model = _without_early_strides(parent)
        else:
            model = _timm_model(name, pretrained, options, weights)
    return Backbone(model, tap_depths)


@contextlib.contextmanager
def _built_with(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """What a network has against its options is one line, however it says so."""
    try:
        yield
    except TypeError as error:
        raise UserError(f"backbone {name!r}: {error}") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, ValueError) as error:
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        why = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"backbone {name!r} can't be built with options {given}: {why}") from error


def resize_filter(name: str) -> Literal["bilinear", "bicubic"] | None:
    """Pillow's filter by which a backbone's pretraining resized; none where it is another."""
    if name == HIGHPASS_SMALL:
        return None
    import timm

    found = timm.get_pretrained_cfg(timm_name(name)).interpolation
    return cast(Literal["bilinear", "bicubic"], found) if found in _FILTERS else None


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, a channel each, that a backbone expects of pixels in [0, 1]."""
    if name == HIGHPASS_SMALL:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    import timm

    config = timm.get_pretrained_cfg(timm_name(name))
    return tuple(config.mean), tuple(config.std)


def timm_name(name: str) -> str:
    """The model of timm's whose weights and preprocessing a backbone has; highpass-small: none."""
    return _NODOWN_PARENT if name == RESNET50_NODOWN else name


def check_options(options: Mapping[str, Any]) -> None:
    """Nothing where options of a backbone are harmless: strangers may ask for anything.

    Raises:
        UserError: one that reads files, or a size that is too much.
    """
    if reserved := _RESERVED_OPTIONS & options.keys():
        raise UserError(f"backbone option {min(reserved)!r} cannot be set; leave it out")
    for option, value in options.items():
        if isinstance(value, int | float) and abs(value) > _MOST_OF_AN_OPTION:
            raise UserError(f"backbone option {option!r}: {value:,} is too much")


def check_start(
    name: str, options: Mapping[str, Option], pretrained: bool, weights: Weights | None
) -> None:
    """Nothing where a backbone can start from its pretrained weights, as far as names tell.

    Raises:
        UserError: see check_activation and check_names.
    """
    if name != HIGHPASS_SMALL and (pretrained or weights is not None):
        with _built_with(name, options):
            _check_start(timm_name(name), options, weights)


def _check_start(name: str, options: Mapping[str, Any], weights: Weights | None) -> None:
    import timm

    with torch.device("meta"):
        bare = timm.create_model(name, num_classes=0, **options)
    check_activation(name, bare)
    if weights is not None:
        check_names(weights, name, bare)


def _highpass_small(pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    if pretrained:
        raise UserError(f"{HIGHPASS_SMALL} has no pretrained weights; set pretrained to false")
    return HighPassNetwork(**options)


def _without_early_strides(model: Any) -> nn.Module:
    model.conv1.stride = (1, 1)
    model.maxpool.stride = 1
    for info in model.feature_info:
        info["reduction"] //= 2 if info["module"] == "act1" else 4
    return cast(nn.Module, model)


def _timm_model(
    name: str, pretrained: bool, options: Mapping[str, Any], weights: Weights | None
) -> nn.Module:
    # On demand, here and below: timm imports as slowly as torch, and a small network needs none.
    import timm

    # A name with a colon would make timm look up a repository or a folder.
    if ":" in name or not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5] or ["see timm.list_models()"]
        raise UserError(
            f"no backbone {name!r}; there are {HIGHPASS_SMALL}, {RESNET50_NODOWN}, "
            f"and timm's: {', '.join(near)}"
        )
    wanted = pretrained or weights is not None
    try:
        if wanted:  # before anything is fetched
            _check_start(name, options, weights)
        overlay = overlay_from_hub(name) if pretrained and weights is None else None
        if weights is not None:
            overlay = {"state_dict": dict(weights.tensors)}
        model = timm.create_model(
            name, pretrained=wanted, pretrained_cfg_overlay=overlay, num_classes=0, **options
        )
    except (OSError, RuntimeError) as error:
        # timm raises RuntimeError both for an unknown tag and for weights that do not fit.
        why = str(error).strip().splitlines()[-1].strip() if weights else str(error).splitlines()[0]
        if isinstance(error, OSError):
            raise UserError(f"backbone {name!r}: {why}; {unfetched(name)}") from error
        of = f"{weights.where}: " if weights else ""
        raise UserError(f"{of}backbone {name!r}: {why}") from error
    return cast(nn.Module, model)
