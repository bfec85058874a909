"""What a Hugging Face folder says of how it sees an image, as preprocessing of ours.

Whatever class of transformers it names, ours has to give the same numbers: both are run on an image
of noise, and a processor that ours does not repeat is refused.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.models.adopted.quiet import quiet
from rayapp.models.detector_spec import Preprocessing, Processor
from rayapp.models.preprocessing import preprocess

CONFIG_FILE, PROCESSOR_FILE = "config.json", "preprocessor_config.json"
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
        found = _timm(theirs) if hasattr(theirs, "data_config") else _ours(theirs, where)
        _check_same(theirs, found, where)
    return found


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
        except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: {PROCESSOR_FILE}: no processor of images: {why}") from None


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
    if getattr(theirs, "do_pad", None):
        raise UserError(f"{where}: {name} pads images, which is not repeated here")
    fields: dict[str, Any] = {
        "kernel": "pillow" if theirs.backend == "pil" else "torch",
        "filter": _filter(theirs),
        "rounded": not name.startswith("DINOv3"),  # that one scales first, and resizes floats
    }
    if theirs.do_resize:
        fields |= _resizing(theirs, where)
    if getattr(theirs, "do_center_crop", None):
        crop = theirs.crop_size
        fields["crop"] = (crop["height"], crop["width"])
    processor = Processor(**fields)
    if processor.shape is None:
        raise UserError(
            f"{where}: {name} gives images of many sizes; a height and width, or a crop, is wanted"
        )
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if theirs.do_normalize:
        mean, std = _channels(theirs.image_mean), _channels(theirs.image_std)
    return Preprocessing(
        view="resize",
        size=processor.shape[0],
        processor=processor,
        input_scale=theirs.rescale_factor if theirs.do_rescale else 1.0,
        mean=mean,
        std=std,
    )


def _resizing(theirs: Any, where: str) -> dict[str, Any]:
    size = {k: v for k, v in dict(theirs.size).items() if v is not None}
    if "crop_pct" in vars(theirs) or hasattr(type(theirs), "crop_pct"):
        return _convnext(theirs, size, where)
    if size.keys() == {"height", "width"}:
        return {"resized": (size["height"], size["width"])}
    if size.keys() == {"shortest_edge"}:
        return {"shorter": size["shortest_edge"]}
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


def _channels(values: Any) -> tuple[float, float, float]:
    one, *others = values if isinstance(values, list | tuple) else [values]
    red, green, blue = (one, *others) if others else (one, one, one)
    return float(red), float(green), float(blue)


def _check_same(theirs: Any, ours: Preprocessing, where: str) -> None:
    rng = np.random.default_rng(0)
    for shape in _PROBES_HW:
        pixels_HWC = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        given = theirs(images=Image.fromarray(pixels_HWC), return_tensors="pt")["pixel_values"]
        found = preprocess(pixels_HWC, ours)
        scale = max(float(given.abs().max()), 1.0)
        if given.shape != found.shape or not torch.allclose(
            given.float(), found, rtol=0, atol=_TOLERANCE * scale
        ):
            raise UserError(
                f"{where}: {type(theirs).__name__} does more than to resize, crop, scale and "
                "normalise: it is not repeated here"
            )
