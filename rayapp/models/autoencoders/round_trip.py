"""An autoencoder opened: RGB uint8 images in, what it renders of them out, one at a time.

One image at a time and one thread of torch: what comes out hangs on the image alone, not on what
stood beside it in a batch nor on the number of CPUs.

Shapes: N images · H W C · h w a latent's.
"""

import io
import json
import os
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.models.autoencoders.autoencoder_spec import StoredAutoencoder
from rayapp.models.autoencoders.taesd import load_taesd
from rayapp.models.autoencoders.tiling import in_tiles
from rayapp.models.autoencoders.tiny import Generator
from rayapp.models.autoencoders.upscaler import open_upscaler
from rayapp.models.foreign import load_strictly, open_checkpoint, weights_of
from rayapp.models.inference.precision import without_tf32
from rayapp.transforms.operations import ImageHWC

TILE_PX = 640  # of a side, done at once beside its halo: under 1 GB
_KINDS_WITH_LATENTS = ("taesd", "diffusers")


@dataclass(frozen=True)
class LatentNoise:
    """Gaussian noise on a latent: `share` of the latent's own standard deviation."""

    share: float
    seed: int

    def added(self, latents_NChw: Tensor) -> Tensor:
        """The latent with noise that is a function of seed and shape."""
        draws = np.random.Generator(np.random.Philox(key=self.seed))
        field = torch.from_numpy(draws.standard_normal(tuple(latents_NChw.shape), dtype=np.float32))
        return latents_NChw + self.share * latents_NChw.std() * field.to(latents_NChw.device)


@dataclass(frozen=True)
class Reconstructor:
    """A function from RGB uint8 [H, W, 3] to the same, sides multiples of `multiple`."""

    multiple: int
    _render: Callable[[ImageHWC, LatentNoise | None], ImageHWC]

    def __call__(self, pixels_HWC: ImageHWC, noise: LatentNoise | None = None) -> ImageHWC:
        """The image as the autoencoder renders it."""
        return self._render(pixels_HWC, noise)


def takes_noise(stored: StoredAutoencoder) -> bool:
    """Whether its latents can be reached."""
    return stored.spec.kind in _KINDS_WITH_LATENTS


def open_autoencoder(
    stored: StoredAutoencoder, device: str = "cpu", tile_px: int = TILE_PX
) -> Reconstructor:
    """The network on its device, ready to render.

    Args:
        stored: what it is and where it lies.
        device: cpu or cuda.
        tile_px: largest side that is done at once by the TAESD family, and by a network that says
            how far it looks; others take images whole.

    Raises:
        UserError: files that are gone, changed or another network's; a library that is missing.
    """
    opened = {
        "taesd": _taesd,
        "diffusers": _diffusers,
        "demo": _demo,
        "ncnn": open_upscaler,
        "torchscript": _torchscript,
        "python": _python,
    }[stored.spec.kind](stored, device, tile_px)
    return Reconstructor(stored.spec.multiple, opened)


_Render = Callable[[ImageHWC, LatentNoise | None], ImageHWC]


def _taesd(stored: StoredAutoencoder, device: str, tile_px: int) -> _Render:
    spec, where = stored.spec, ", ".join(stored.uris.values())
    parts = [
        weights_of(open_checkpoint(stored.read(role), stored.uris[role]), stored.uris[role])
        for role in ("encoder", "decoder")
    ]
    network = load_taesd(
        *parts, latent_channels=spec.latent_channels, middle_blocks=spec.middle_blocks, where=where
    ).to(device)
    return _through_latents(
        lambda images: network.encode(images, tile_px),
        lambda latents: network.decode(latents, tile_px),
        device,
    )


def _diffusers(stored: StoredAutoencoder, device: str, _: int) -> _Render:
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise UserError(
            f"{stored.spec.name}: needs diffusers: pip install 'imaginet-ray[diffusers]'"
        ) from None
    where, config = stored.uris["config"], stored.read("config")
    try:
        kind = json.loads(config).get("_class_name")
    except (ValueError, AttributeError):
        kind = None
    if kind != "AutoencoderKL":
        raise UserError(f"{where}: is no config.json of an AutoencoderKL")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_bytes(config)
        Path(folder, "diffusion_pytorch_model.safetensors").write_bytes(stored.read("network"))
        try:
            network = AutoencoderKL.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{stored.uris['network']}: not the weights of {where}: {why}"
            ) from None
    network = network.to(device, torch.float32).eval()
    return _through_latents(
        lambda images: network.encode(images * 2 - 1).latent_dist.mode(),
        lambda latents: network.decode(latents).sample / 2 + 0.5,
        device,
    )


def _through_latents(
    encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], device: str
) -> _Render:
    def render(pixels_HWC: ImageHWC, noise: LatentNoise | None) -> ImageHWC:
        with torch.inference_mode(), without_tf32():
            latents_NChw = encode(_to_tensor(pixels_HWC, device))
            if noise is not None and noise.share:
                latents_NChw = noise.added(latents_NChw)
            return _to_pixels(decode(latents_NChw))

    return render


def _in_tiles(render: _Render, halo_px: int, multiple: int, tile_px: int) -> _Render:
    """`render` done tile by tile; whole where no halo is known."""
    if not halo_px:
        return render
    halo = -(-halo_px // multiple) * multiple

    def tiled(pixels_HWC: ImageHWC, noise: LatentNoise | None) -> ImageHWC:
        made_NCHW = in_tiles(
            lambda tile_NCHW: _as_planes(render(_as_pixels(tile_NCHW), noise)),
            _as_planes(pixels_HWC),
            side=tile_px // multiple * multiple,
            halo=halo,
            unit=multiple,
            scale=(1, 1),
        )
        return _as_pixels(made_NCHW)

    return tiled


def _demo(stored: StoredAutoencoder, device: str, tile_px: int) -> _Render:
    assert stored.spec.family is not None  # checked where the file was read
    network = Generator(stored.spec.family)
    where = stored.uris["network"]
    load_strictly(network, weights_of(open_checkpoint(stored.read("network"), where), where), where)
    render = _plain(network.eval().to(device), device)
    return _in_tiles(render, stored.spec.halo_px, stored.spec.multiple, tile_px)


def _torchscript(stored: StoredAutoencoder, device: str, tile_px: int) -> _Render:
    try:
        network = torch.jit.load(io.BytesIO(stored.read("network")), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        why = " ".join(str(error).split())[:120]
        raise UserError(f"{stored.uris['network']}: no TorchScript network: {why}") from None
    render = _plain(network.eval(), device)
    return _in_tiles(render, stored.spec.halo_px, stored.spec.multiple, tile_px)


def _plain(network: Callable[[Tensor], Tensor], device: str) -> _Render:
    def render(pixels_HWC: ImageHWC, _: LatentNoise | None) -> ImageHWC:
        with torch.inference_mode(), without_tf32():
            return _to_pixels(network(_to_tensor(pixels_HWC, device)))

    return render


def _python(stored: StoredAutoencoder, _: str, tile_px: int) -> _Render:
    uri = stored.uris["network"]
    module = types.ModuleType(f"own_autoencoder_{stored.hash[:12]}")
    module.__file__ = uri
    sys.modules[module.__name__] = module  # dataclasses and pickles look there
    if "://" not in uri:
        sys.path.insert(0, os.path.dirname(uri))  # what lies beside the file, where it is
    try:
        code = compile(stored.read("network"), uri, "exec")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{uri}: not Python: {error}") from None
    exec(code, module.__dict__)  # noqa: S102 - the user's own
    found: Any = getattr(module, "reconstruct", None)
    if not callable(found):
        raise UserError(f"{uri}: defines no reconstruct(images) that gives an image an image")
    halo_px = getattr(module, "HALO_PX", stored.spec.halo_px)
    if not isinstance(halo_px, int) or halo_px < 0:
        raise UserError(f"{uri}: HALO_PX is {halo_px!r}; px are wanted, or 0 to be done whole")

    def render(pixels_HWC: ImageHWC, _: LatentNoise | None) -> ImageHWC:
        made = list(found([pixels_HWC]))
        if len(made) != 1:
            raise UserError(f"{uri}: reconstruct gave {len(made)} images for 1")
        image = np.asarray(made[0])
        if image.dtype != np.uint8 or image.shape != pixels_HWC.shape:
            raise UserError(
                f"{uri}: reconstruct gave {image.dtype} {list(image.shape)}, "
                f"uint8 {list(pixels_HWC.shape)} is wanted"
            )
        return np.ascontiguousarray(image)

    return _in_tiles(render, halo_px, stored.spec.multiple, tile_px)


def _as_planes(pixels_HWC: ImageHWC) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)[None]


def _as_pixels(planes_NCHW: Tensor) -> ImageHWC:
    return np.ascontiguousarray(planes_NCHW[0].permute(1, 2, 0).numpy())


def _to_tensor(pixels_HWC: ImageHWC, device: str) -> Tensor:
    return _as_planes(pixels_HWC).to(device).float() / 255


def _to_pixels(images_NCHW: Tensor) -> ImageHWC:
    if not torch.isfinite(images_NCHW).all():
        raise UserError("the autoencoder gave values that are no numbers")
    levels = (images_NCHW[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return _as_pixels(levels[None])
