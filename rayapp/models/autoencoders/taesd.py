"""The TAESD family: tiny autoencoders of the latent spaces of published generators.

Source: Ollin Boer Bohan, github.com/madebyollin/taesd (MIT); the layout is written anew here.
TAESD, TAESDXL (4 latent channels), TAESD3 and TAEF1 (16) are local; TAEF2 (32) has middle blocks,
whose normalisation looks at the whole picture.

Both networks are kept in parts: what is local, which may be done tile by tile, and what stands in
the middle, at an eighth of the size, which is done whole.

Shapes: N images · C channels · H W in px · h w a latent's, an eighth.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rayapp.models.autoencoders.tiling import in_tiles
from rayapp.models.foreign import load_strictly

FACTOR = 8  # px of a latent's side
_WIDTH = 64
_BLOCKS = 3
# How far an output pixel of the local parts looks: 65 px. By 3 × 3 convolutions, those at half the
# size count twice: encoder 4 + 1 + 18 + 2 + 36 + 4, decoder 40 + 20 + 5. In whole latents that is:
HALO_PX = 72
_ENCODER_LOCAL, _DECODER_MIDDLE = 11, 6  # layers: to the third stride; to the first upsampling


class _Block(nn.Module):
    """ReLU(conv·ReLU·conv·ReLU·conv(x) + x); a middle block adds `pool(x)` to x first."""

    def __init__(self, middle: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(_WIDTH, _WIDTH),
            nn.ReLU(),
            _conv(_WIDTH, _WIDTH),
            nn.ReLU(),
            _conv(_WIDTH, _WIDTH),
        )
        self.pool = _pool() if middle else None

    def forward(self, x_NChw: Tensor) -> Tensor:
        """The same shape."""
        if self.pool is not None:
            x_NChw = x_NChw + self.pool(x_NChw)
        result: Tensor = torch.relu_(self.conv(x_NChw) + x_NChw)
        return result


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def _pool() -> nn.Sequential:
    wide = 4 * _WIDTH
    return nn.Sequential(
        nn.Conv2d(_WIDTH, wide, 1, bias=False),
        nn.GroupNorm(4, wide),
        nn.ReLU(),
        nn.Conv2d(wide, _WIDTH, 1, bias=False),
    )


class _Bounded(nn.Module):
    def forward(self, latents_NChw: Tensor) -> Tensor:
        """3·tanh(x/3): no latent is beyond ±3."""
        return torch.tanh(latents_NChw / 3) * 3


def _encoder(latent_channels: int, middle: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, _WIDTH), _Block()]
    for third in (False, False, True):
        layers.append(_conv(_WIDTH, _WIDTH, stride=2, bias=False))
        layers += [_Block(middle and third) for _ in range(_BLOCKS)]
    return nn.Sequential(*layers, _conv(_WIDTH, latent_channels))


def _decoder(latent_channels: int, middle: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_Bounded(), _conv(latent_channels, _WIDTH), nn.ReLU()]
    for first in (True, False, False):
        layers += [_Block(middle and first) for _ in range(_BLOCKS)]
        layers += [nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
    return nn.Sequential(*layers, _Block(), _conv(_WIDTH, 3))


class Taesd(nn.Module):
    """An encoder and a decoder of the family."""

    def __init__(self, latent_channels: int, middle_blocks: bool) -> None:
        super().__init__()
        self.encoder = _encoder(latent_channels, middle_blocks)
        self.decoder = _decoder(latent_channels, middle_blocks)

    def encode(self, images_NCHW: Tensor, tile_px: int = 1 << 30) -> Tensor:
        """Latents [N, C, h, w] of images [N, 3, H, W] in 0…1, sides multiples of 8.

        Args:
            images_NCHW: the images.
            tile_px: largest side of what is done at once; the result is the same to rounding.
        """
        local, middle = self.encoder[:_ENCODER_LOCAL], self.encoder[_ENCODER_LOCAL:]
        whole = in_tiles(
            local, images_NCHW, side=tile_px, halo=HALO_PX, unit=FACTOR, scale=(1, FACTOR)
        )
        result: Tensor = middle(whole)
        return result

    def decode(self, latents_NChw: Tensor, tile_px: int = 1 << 30) -> Tensor:
        """Images [N, 3, H, W] in 0…1 of latents, as `encode` gives them."""
        middle, local = self.decoder[:_DECODER_MIDDLE], self.decoder[_DECODER_MIDDLE:]
        whole = in_tiles(
            local,
            middle(latents_NChw),
            side=max(tile_px // FACTOR, 1),
            halo=HALO_PX // FACTOR,
            unit=1,
            scale=(FACTOR, 1),
        )
        return whole.clamp_(0, 1)


def load_taesd(
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    *,
    latent_channels: int,
    middle_blocks: bool,
    where: str,
) -> Taesd:
    """The network with its author's weights, as float32.

    Raises:
        UserError: tensors of another network; `where` names it.
    """
    network = Taesd(latent_channels, middle_blocks)
    for part, given in ((network.encoder, encoder), (network.decoder, decoder)):
        load_strictly(part, {name: tensor.float() for name, tensor in given.items()}, where)
    return network.eval()
