"""Features of a frozen CLIP ViT-B/16, kept in a folder: what is there is not made again.

Of every image two squares of 224 px are looked at, all of it made small and its centre as it is,
and of each the class token after each of the twelve blocks is kept: what generators leave shows in
the middle blocks, not in the last one, which was trained to name what an image shows.

Shapes: N images · H W C · L blocks · D width · F = 2 × L × D features.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, decode
from rayapp.run.progress import Progress
from rayapp.transforms import PLAIN, ImageHWC, apply, load_perturbation
from rayapp.transforms.operations import crop, pad, resize, window_at

BACKBONE = "vit_base_patch16_clip_quickgelu_224.openai"
SIDE = 224
NUM_BLOCKS, WIDTH = 12, 768
LEVELS: dict[str, tuple[str, ...]] = {"clean": (), "web": ("web",), "hard": ("hard",)}
EQUALISE = "equalise"
_BATCH = 8  # images of a forward pass, of two squares each
Single = NDArray[np.float32]
Precision = Literal["auto", "float32", "bfloat16"]
Views = Callable[[ImageHWC], Sequence[ImageHWC]]


@dataclass(frozen=True)
class Condition:
    """What happens to an image before it is scored: a level, and whether it is equalised."""

    level: str
    equalised: bool

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Names of perturbations, in order."""
        return (*LEVELS[self.level], *((EQUALISE,) if self.equalised else ()))

    def apply(self, image_HWC: ImageHWC, item_id: str) -> ImageHWC:
        """The image as it is scored."""
        for name in self.perturbations:
            plans = load_perturbation(name).draw(image_HWC.shape[:2], item_id, seed=0)
            image_HWC = apply(plans[PLAIN], image_HWC)
        return image_HWC

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.level}, {'equalised' if self.equalised else 'as the files are'}"

    @property
    def key(self) -> str:
        """What the pixels depend on, for a cache."""
        return ",".join(load_perturbation(name).hash for name in self.perturbations)


CONDITIONS = tuple(Condition(level, equalised) for level in LEVELS for equalised in (True, False))
Source = tuple[str, Callable[[], ImageHWC]]  # an id, and how its pixels are made


class FrozenFeatures:
    """Features of images, read from the cache where they are there."""

    def __init__(self, weights: Path, cache: Path, precision: Precision = "auto") -> None:
        if not weights.is_file():
            raise UserError(f"{weights}: no such file; --backbone-weights takes {BACKBONE}'s")
        self._weights, self._cache = weights, cache
        self._precision = _fast_precision() if precision == "auto" else precision
        content = f"{hashlib.sha256(weights.read_bytes()).hexdigest()}\0{BACKBONE}\0two squares"
        self._key = f"{content}\0{self._precision}"
        self._model: Any = None

    @property
    def description(self) -> str:
        """What computes them, in words."""
        return f"{BACKBONE} in {self._precision}"

    def of(self, sources: Sequence[Source], title: str, views: Views | None = None) -> Single:
        """Features [N, F] of images; ids say all that the pixels depend on, `views` too.

        `views` are the squares of an image that are looked at, as many of each; two where not told.
        """
        views = views or squares
        files = [self._file(name) for name, _ in sources]
        missing = [at for at, file in enumerate(files) if not file.is_file()]
        if missing:
            with Progress(title, len(missing), unit="images") as progress:
                for start in range(0, len(missing), _BATCH):
                    chosen = missing[start : start + _BATCH]
                    seen = [view for at in chosen for view in views(sources[at][1]())]
                    computed_NF = self._computed(seen).reshape(len(chosen), -1)
                    for at, features_F in zip(chosen, computed_NF, strict=True):
                        _write(files[at], features_F)
                        progress.update()
        return np.stack([np.load(file) for file in files]).astype(np.float32)

    def _file(self, name: str) -> Path:
        key = hashlib.sha256(f"{self._key}\0{name}".encode()).hexdigest()
        return self._cache / key[:2] / f"{key[2:34]}.npy"

    def _computed(self, images: Sequence[ImageHWC]) -> NDArray[np.float16]:
        import torch

        if self._model is None:
            self._model = _frozen(self._weights, self._precision)
        model, mean, std = self._model
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(images)).float() / 255
            inputs_NCHW = ((pixels - mean) / std).permute(0, 3, 1, 2)
            found = model.forward_intermediates(
                inputs_NCHW.to(next(model.parameters()).dtype),
                output_fmt="NLC",
                return_prefix_tokens=True,
                intermediates_only=True,
            )
            tokens_NLD = torch.stack([prefix[:, 0] for _, prefix in found], dim=1)
        return np.asarray(tokens_NLD.flatten(1).float().half().numpy())


def block_tokens(features_NF: Single, number: int) -> Single:
    """The class token after one block (the first is 1), of the first square alone [N, D]."""
    tokens = features_NF.reshape(len(features_NF), -1, NUM_BLOCKS, WIDTH)
    return np.ascontiguousarray(tokens[:, 0, number - 1])


def squares(image_HWC: ImageHWC) -> tuple[ImageHWC, ImageHWC]:
    """What the backbone looks at: all of the image (its central square) made small, its centre."""
    height, width = image_HWC.shape[:2]
    shorter = min(height, width)
    sides = max(SIDE, round(height * SIDE / shorter)), max(SIDE, round(width * SIDE / shorter))
    small_HWC = resize(image_HWC, *sides, "area" if shorter > SIDE else "lanczos4")
    return centre(small_HWC), centre(image_HWC)


def centre(image_HWC: ImageHWC) -> ImageHWC:
    """The central square; a smaller image is continued by mirroring."""
    padded_HWC = pad(image_HWC, SIDE, SIDE)
    return crop(padded_HWC, *window_at(padded_HWC.shape[:2], SIDE, "centre"))


def _fast_precision() -> Literal["float32", "bfloat16"]:
    """bfloat16 where the CPU multiplies it: a third of the time."""
    import torch

    found = torch.cpu.get_capabilities()
    return "bfloat16" if found.get("avx512_bf16") or found.get("amx_bf16") else "float32"


def _frozen(weights: Path, precision: Precision) -> tuple[Any, Any, Any]:
    import torch

    from rayapp.models.backbones import create_backbone, normalisation
    from rayapp.models.pretrained import read_weights

    found = read_weights(weights.read_bytes(), str(weights))
    model = create_backbone(BACKBONE, weights=found).model.eval()
    mean, std = normalisation(BACKBONE)
    return model.to(getattr(torch, precision)), torch.tensor(mean), torch.tensor(std)


def _write(file: Path, features_F: NDArray[np.float16]) -> None:
    """Whole or not at all, so that what was cut off is made again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sink = io.BytesIO()
    np.save(sink, features_F)
    part = file.with_suffix(".part")
    part.write_bytes(sink.getvalue())
    part.replace(file)


def source_of(file: Path, digest: str, item_id: str, condition: Condition) -> Source:
    """An image's file, whose sha256 is known, under a condition."""
    name = f"{digest}\0{condition.key}"
    return name, lambda: condition.apply(pixels_of(file.read_bytes(), item_id), item_id)


def pixels_of(data: bytes, path: str) -> ImageHWC:
    """The pixels of an image file.

    Raises:
        UserError: it can't be decoded; the line names it.
    """
    try:
        return decode(data).pixels_HWC
    except ImageError as error:
        raise UserError(f"{path}: {error}; mend it or take it out of the set") from None
