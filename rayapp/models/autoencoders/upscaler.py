"""Super-resolution networks of ncnn's: an image made smaller, and drawn again by the network.

They leave the trace of their own last layers, as upscalers do that people run on photographs and
on generated images. On a CPU, one thread an image.

Shapes: H W · C channels red, green, blue.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rayapp.config.errors import UserError
from rayapp.models.autoencoders.autoencoder_spec import StoredAutoencoder
from rayapp.transforms.operations import ImageHWC

_INPUT, _OUTPUT = "data", "output"  # blobs of Real-ESRGAN's and its kin


def open_upscaler(
    stored: StoredAutoencoder, device: str, _: int
) -> Callable[[ImageHWC, Any], ImageHWC]:
    """A function from RGB uint8 [H, W, 3] to the same: shrunk `scale` times, then enlarged.

    Raises:
        UserError: ncnn is missing, or the files are none of its networks.
    """
    if device != "cpu":
        raise UserError(f"{stored.spec.name}: upscalers run on the CPU; leave --gpus out")
    net, ncnn = _loaded(stored)
    scale = stored.spec.scale

    def render(pixels_HWC: ImageHWC, _: Any) -> ImageHWC:
        height, width = pixels_HWC.shape[:2]
        small_HWC = cv2.resize(
            pixels_HWC, (width // scale, height // scale), interpolation=cv2.INTER_AREA
        )
        planes_CHW = np.ascontiguousarray(small_HWC.transpose(2, 0, 1), dtype=np.float32) / 255
        extractor = net.create_extractor()
        extractor.input(_INPUT, ncnn.Mat(planes_CHW))
        code, made = extractor.extract(_OUTPUT)
        made_CHW = np.array(made) if code == 0 else np.empty(0)
        if made_CHW.shape != (3, height, width) or not np.isfinite(made_CHW).all():
            raise UserError(
                f"{stored.spec.name}: gave {list(made_CHW.shape)}, [3, {height}, {width}] is wanted"
            )
        levels: ImageHWC = np.clip(np.rint(made_CHW * 255), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    return render


def _loaded(stored: StoredAutoencoder) -> tuple[Any, Any]:
    try:
        import ncnn
    except ImportError:
        raise UserError(
            f"{stored.spec.name}: needs ncnn: pip install 'imaginet-ray[upscalers]'"
        ) from None
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        codes = []
        for role, load in (("param", net.load_param), ("bin", net.load_model)):
            path = Path(folder, f"network.{role}")
            path.write_bytes(stored.read(role))
            codes.append(load(str(path)))
    if any(codes):
        raise UserError(f"{', '.join(stored.uris.values())}: are no network of ncnn's")
    return net, ncnn
