"""A small network that sees residuals only: enough for up-sampling traces, fast without a GPU.

Shapes: N images · C channels · H W.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows: second difference along x, along y and across, Laplacian, and the 5×5 square, each summing
# to zero. Fridrich and Kodovský, Rich Models for Steganalysis, IEEE TIFS 2012.
_KERNELS = (
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 2, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 2, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 1, -2, 1, 0, 0, -2, 4, -2, 0, 0, 1, -2, 1, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, -1, 4, -1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0),
    (-1, 2, -2, 2, -1, 2, -6, 8, -6, 2, -2, 8, -12, 8, -2, 2, -6, 8, -6, 2, -1, 2, -2, 2, -1),
)


class HighPassNetwork(nn.Module):
    """Fixed high-pass residuals of each colour channel, then convolutions, BatchNorm and ReLU.

    The first block keeps the resolution, each later one halves it. The mean over all positions of
    the last block's output is the feature vector, so images may have any size above 8 px.

    Args:
        width: channels of the first block; they double from block to block up to 4 · width.
        depth: number of blocks.
        clamp: where residuals of pixels in [0, 1] are cut off: edges must not drown the noise.
    """

    def __init__(self, width: int = 16, depth: int = 4, clamp: float = 0.1) -> None:
        super().__init__()
        self.clamp = clamp
        sums = [sum(map(abs, kernel)) for kernel in _KERNELS]
        scaled = [[v / s for v in kernel] for kernel, s in zip(_KERNELS, sums, strict=True)]
        kernels = torch.tensor(3 * scaled, dtype=torch.float32).view(-1, 1, 5, 5)
        self.register_buffer("kernels", kernels)
        channels = [3 * len(_KERNELS), *(width * min(2**block, 4) for block in range(depth))]
        self.blocks = nn.ModuleList(
            _block(before, after, stride=1 if index == 0 else 2)
            for index, (before, after) in enumerate(pairwise(channels))
        )
        self.feature_info = [
            {"num_chs": count, "reduction": 2**index, "module": f"blocks.{index}"}
            for index, count in enumerate(channels[1:])
        ]
        self.head_hidden_size = channels[-1]

    def forward_intermediates(
        self, images_NCHW: Tensor, indices: list[int], output_fmt: str = "NCHW"
    ) -> tuple[Tensor, list[Tensor]]:
        """Output of the last block, and of the blocks named in `indices`; all [N, C, H, W]."""
        assert output_fmt == "NCHW"
        kernels: Any = self.kernels
        maps = F.conv2d(images_NCHW, kernels.to(images_NCHW.dtype), groups=3)
        maps = maps.clamp(-self.clamp, self.clamp)
        taken = []
        for index, block in enumerate(self.blocks):
            maps = block(maps)
            if index in indices:
                taken.append(maps)
        return maps, taken

    def forward_features(self, images_NCHW: Tensor) -> Tensor:
        """Output of the last block [N, C, H, W]."""
        return self.forward_intermediates(images_NCHW, [])[0]

    def forward_head(self, maps_NCHW: Tensor, pre_logits: bool = True) -> Tensor:
        """Mean over all positions [N, C]."""
        assert pre_logits
        return maps_NCHW.mean((2, 3))


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
