"""The demo's four tiny autoencoders, one family each by how it upsamples.

Shapes: N images · C channels · H W.
"""

from typing import Literal

from torch import Tensor, nn

Family = Literal[
    "transposed convolution", "nearest + convolution", "bilinear + convolution", "pixel shuffle"
]
FOLD = 2  # px of a side that become one


class Generator(nn.Module):
    """Space to depth, two convolutions, one upsampling by two of the family, one convolution."""

    def __init__(self, family: Family, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD**2, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.up = _upsampling(family, width)
        self.out = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Reconstructed images [N, 3, H, W], about 0…1, from images in 0…1; H and W even."""
        result: Tensor = self.out(self.up(self.down(images_NCHW)))
        return result


def _upsampling(family: Family, width: int) -> nn.Module:
    match family:
        case "transposed convolution":
            return nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        case "nearest + convolution":
            resize = nn.Upsample(scale_factor=2, mode="nearest")
            return nn.Sequential(resize, nn.Conv2d(width, width, 3, padding=1))
        case "bilinear + convolution":
            resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            return nn.Sequential(resize, nn.Conv2d(width, width, 3, padding=1))
        case "pixel shuffle":
            return nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2))
