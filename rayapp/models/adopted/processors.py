"""What a Hugging Face folder says of how it sees an image, as preprocessing of ours.

Whatever class of transformers it names, ours has to give the same numbers: both are run on an image
of noise, and a processor that ours does not repeat is refused.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.models.adopted.quiet import quiet
from rayapp.models.detector_spec import Preprocessing, Processor
from rayapp.models.preprocessing import preprocess

CONFIG_FILE, PROCESSOR_FILE = "config.json", "preprocessor_config.json"
NESTED_FILE, NESTED = "processor_config.json", "image_processor"  # of newer versions; goes before
_TOLERANCE = 1e-5
_PROBES_HW = ((301, 417), (97, 61))  # neither side whole multiples; one smaller than most crops
_CONVNEXT_WHOLE = 384  # from this size on ConvNeXT's processor cuts nothing away


def read_processor(
    config: Mapping[str, Any], processor: Mapping[str, Any] | None, where: str
) -> Preprocessing:
    """The preprocessing of a folder, from its two settings files (checked before).

    Raises:
        UserError: a processor that is not known, or does what ours can't repeat.
    """
    with quiet():
        theirs = _theirs(config, processor, where)
        try:
            found = _timm(theirs) if hasattr(theirs, "data_config") else _ours(theirs, where)
            _check_same(theirs, found, where)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - settings may be wrong in any way
            raise _unfit(error, where) from None
    return found


def _unfit(error: Exception, where: str) -> UserError:
    why = " ".join(str(error).split())[:200]
    return UserError(f"{where}: {PROCESSOR_FILE}: no processor of images: {why}")


def _theirs(config: Mapping[str, Any], processor: Mapping[str, Any] | None, where: str) -> Any:
    from transformers import AutoImageProcessor

    if processor is None and config.get("model_type") != "timm_wrapper":
        raise UserError(f"{where}: has no {PROCESSOR_FILE}: how it sees an image is not known")
    # Of the folder itself only what was read and checked: nothing else lies here.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
        if processor is not None:
            Path(folder, PROCESSOR_FILE).write_text(json.dumps(processor), encoding="utf-8")
        try:
            return AutoImageProcessor.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # noqa: BLE001 - settings may be wrong in any way
            raise _unfit(error, where) from None


def _timm(theirs: Any) -> Preprocessing:
    """Timm's own evaluation transform: by Pillow, the crop as torchvision rounds it."""
    data = theirs.data_config
    _, height, width = data["input_size"]
    known: dict[str, Any] = {"size": height, "mean": data["mean"], "std": data["std"]}
    if data["crop_mode"] == "center" and height == width:
        side = math.floor(height / data["crop_pct"])
        return Preprocessing(view="resize", resize_to=side, filter=data["interpolation"], **known)
    squashed = (math.floor(height / data["crop_pct"]), math.floor(width / data["crop_pct"]))
    whole = Processor(
        kernel="pillow", filter=data["interpolation"], resized=squashed, crop=(height, width)
    )
    return Preprocessing(view="resize", processor=whole, **known)


def _ours(theirs: Any, where: str) -> Preprocessing:
    name = type(theirs).__name__
    if list(theirs.model_input_names) != ["pixel_values"]:
        raise UserError(
            f"{where}: {name} gives {', '.join(theirs.model_input_names)}; images of one size, "
            "pixel_values alone, are wanted"
        )
    if getattr(theirs, "do_pad", None):
        raise UserError(f"{where}: {name} pads images, which is not repeated here")
    fields: dict[str, Any] = {
        "kernel": "pillow" if theirs.backend == "pil" else "torch",
        "filter": _filter(theirs),
        "rounded": not name.startswith("DINOv3"),  # that one scales first, and resizes floats
        "bgr": _own(theirs, "do_flip_channel_order") or None,
    }
    if theirs.do_resize:
        fields |= _resizing(theirs, where)
    if getattr(theirs, "do_center_crop", None):
        crop = (theirs.crop_size["height"], theirs.crop_size["width"])
        if fields.get("crop", crop) != crop:
            raise UserError(f"{where}: {name} crops twice, which is not repeated here")
        fields["crop"] = crop
    processor = Processor(**fields)
    if processor.shape is None:
        raise UserError(
            f"{where}: {name} gives images of many sizes; a height and width, or a crop, is wanted"
        )
    scale = theirs.rescale_factor if theirs.do_rescale else 1.0
    return Preprocessing(
        view="resize",
        size=processor.shape[0],
        processor=processor,
        input_scale=scale,
        **_normalising(theirs),
    )


def _own(theirs: Any, name: str) -> Any:
    """A setting that its class knows; whatever else its file holds has no effect there."""
    return getattr(theirs, name) if hasattr(type(theirs), name) else None


def _normalising(theirs: Any) -> dict[str, Any]:
    """Mean and std, with all else that is linear in the scaled pixels."""
    mean, std = np.zeros(3), np.ones(3)
    # MobileViT's has the setting, and no normalisation.
    if theirs.do_normalize and not hasattr(type(theirs), "do_flip_channel_order"):
        mean, std = _channels(theirs.image_mean), _channels(theirs.image_std)
    if theirs.do_rescale and _own(theirs, "rescale_offset"):  # EfficientNet's: less 1
        mean = mean + 1
    if _own(theirs, "include_top"):  # EfficientNet's: divided once more
        std = std * _channels(theirs.image_std)
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}


def _resizing(theirs: Any, where: str) -> dict[str, Any]:
    size: dict[str, Any] = {k: v for k, v in dict(theirs.size).items() if v is not None}
    name, shorter = type(theirs).__name__, cast(int, size.get("shortest_edge"))
    share = _own(theirs, "crop_pct")
    if share and not name.startswith("PoolFormer"):
        return _convnext(theirs, size, where)
    if share:  # PoolFormer's: of a square as of a shorter side
        square = size.get("height") if size.get("height") == size.get("width") else None
        side = shorter or square
        if side:
            return {"shorter": int(side / share)}
    elif size.keys() == {"height", "width"}:
        return {"resized": (size["height"], size["width"])}
    elif size.keys() == {"shortest_edge"}:
        return {"shorter": int(256 / 224 * shorter) if name.startswith("Levit") else shorter}
    elif size.keys() == {"shortest_edge", "longest_edge"}:
        return {"shorter": shorter, "longest": size["longest_edge"]}
    raise UserError(
        f"{where}: {PROCESSOR_FILE}: size {size} is not known; height and width, or shortest_edge"
    )


def _convnext(theirs: Any, size: Mapping[str, int], where: str) -> dict[str, Any]:
    """ConvNeXT's: a crop of a share of the image, from 384 px on the whole of it squeezed."""
    if "shortest_edge" not in size:
        raise UserError(f"{where}: {PROCESSOR_FILE}: {type(theirs).__name__} wants shortest_edge")
    side = size["shortest_edge"]
    if side >= _CONVNEXT_WHOLE:
        return {"resized": (side, side)}
    return {"shorter": int(side / theirs.crop_pct), "crop": (side, side)}


def _filter(theirs: Any) -> str:
    resample = theirs.resample
    if resample is None:
        return "bilinear"
    if isinstance(resample, int):
        name = Image.Resampling(resample).name.lower()
        # Of torchvision's two, the one that takes the pixels Pillow does.
        return "nearest-exact" if name == "nearest" and theirs.backend != "pil" else name
    return str(getattr(resample, "value", resample)).lower()


def _channels(values: Any) -> NDArray[np.float64]:
    """A value a channel [3], of one for all or of three."""
    return np.broadcast_to(np.asarray(values, np.float64), 3)


def _check_same(theirs: Any, ours: Preprocessing, where: str) -> None:
    rng = np.random.default_rng(0)
    for shape in _PROBES_HW:
        pixels_HWC = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        given = theirs(images=Image.fromarray(pixels_HWC), return_tensors="pt")["pixel_values"]
        found = preprocess(pixels_HWC, ours)
        if not given.isfinite().all():
            raise ValueError("it gives pixels that are not finite")
        scale = max(float(given.abs().max()), 1.0)
        if given.shape != found.shape or not torch.allclose(
            given.float(), found, rtol=0, atol=_TOLERANCE * scale
        ):
            raise UserError(
                f"{where}: {type(theirs).__name__} does more than to resize, crop, scale and "
                "normalise: it is not repeated here"
            )
