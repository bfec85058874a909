"""Settings of pack."""

from typing import Literal

from pydantic import Field

from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings


class PackSettings(JobSettings):
    """Pack annotated images into lossless tiles, from which crops are read fast."""

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists")
    root: Uri = Field(description="folder or bucket prefix under which the annotated images lie")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    codec: Literal["webp", "zstd"] = Field(
        "webp", description="of the tiles: webp is small, zstd larger and faster to read"
    )
    tile_px: int = Field(128, ge=16, le=1024, description="side of a tile in px")
