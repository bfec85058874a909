"""How many bytes tiles will take, from a few images."""

from collections.abc import Sequence

import numpy as np

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, pixels_of
from rayapp.dataset.members import read_image
from rayapp.dataset.tiles import Codec, tiles_of
from rayapp.run import row_work
from rayapp.storage.store import Store

SAMPLED = 16
_CODECS: tuple[Codec, ...] = ("webp", "zstd")


def expected_bytes(root: Store, rows: Sequence[row_work.Row], tile_px: int) -> dict[str, float]:
    """Bytes an image of the originals and of either codec, from some rows.

    Raises:
        UserError: none of them can be read.
    """
    sizes: dict[str, list[int]] = {name: [] for name in ("originals", *_CODECS)}
    reason = ""
    for row in rows:
        try:
            data = read_image(root, row)
            pixels_HWC = pixels_of(data)
        except (OSError, ImageError) as error:
            reason = f"{row['path']}: {row_work.format_error(error)}"
            continue
        sizes["originals"].append(len(data))
        for codec in _CODECS:
            sizes[codec].append(sum(map(len, tiles_of(pixels_HWC, codec, tile_px))))
    if not sizes["originals"]:
        raise UserError(f"none of {len(rows)} images tried can be read; last {reason}")
    return {name: float(np.mean(values)) for name, values in sizes.items()}


def print_sizes(expected: dict[str, float], num_images: int, codec: Codec) -> None:
    """Say what the tiles of so many images will take, of either codec."""
    sizes = {name: f"{size * num_images / 1e9:,.2f} GB" for name, size in expected.items()}
    other = next(name for name in _CODECS if name != codec)
    print(
        f"pack: {num_images:,} images, {sizes['originals']} as they are; expected {sizes[codec]} "
        f"as {codec} tiles (--codec {other}: {sizes[other]}"
        f"{', written and read faster' if other == 'zstd' else ''})",
        flush=True,
    )
