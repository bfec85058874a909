"""Four tiny convolutional generators, one family each by how it upsamples.

Each is an autoencoder trained on training photographs only. What a detector can find in its
output is the fingerprint of a real network's upsampling, not a drawn-in mark.

Shapes: N images · C channels · H W.
"""

from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rayapp.models.autoencoders.tiny import Family, Generator
from rayapp.transforms.draws import generator as random_generator

FAMILIES: tuple[Family, ...] = get_args(Family)  # the position is the code in annotations/demo.yaml
HELD_OUT: Family = "bilinear + convolution"

_PATCH_PX = 32
_BATCH = 8
_LEARNING_RATE = 5e-3


def train(
    family: Family, crops_NHWC: NDArray[np.uint8], *, steps: int, seed: int
) -> dict[str, Tensor]:
    """Weights of a generator trained to reconstruct random patches of the crops (mean square).

    One torch thread: the same weights whatever the number of CPUs.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = Generator(family)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    draws = random_generator(seed, "demo-generator", family)
    for _ in range(steps):
        at = draws.integers(len(crops_NHWC), size=_BATCH)
        top, left = draws.integers(0, crops_NHWC.shape[1] - _PATCH_PX + 1, size=2)
        patch = crops_NHWC[at, top : top + _PATCH_PX, left : left + _PATCH_PX]
        images = _tensor(patch)
        loss = F.mse_loss(network(images), images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.state_dict()


def reconstruct(family: Family, weights: dict[str, Tensor]) -> "Reconstruction":
    """The trained generator as a function from RGB uint8 [H, W, 3] to the same."""
    network = Generator(family)
    network.load_state_dict(weights)
    return Reconstruction(network.eval())


class Reconstruction:
    """A trained generator: RGB uint8 [H, W, 3] in and out."""

    def __init__(self, network: Generator) -> None:
        self._network = network

    @torch.inference_mode()
    def __call__(self, pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image as the generator renders it."""
        result = self._network(_tensor(pixels_HWC[None])).clamp(0, 1)[0]
        rounded = (result * 255).round().to(torch.uint8)
        return np.ascontiguousarray(rounded.permute(1, 2, 0).numpy())


def psnr_db(a_HWC: NDArray[np.uint8], b_HWC: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images, in dB."""
    error = np.mean((a_HWC.astype(np.float64) - b_HWC.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / error)) if error else float("inf")


def _tensor(images_NHWC: NDArray[np.uint8]) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(images_NHWC)).permute(0, 3, 1, 2)
    return images.float() / 255
