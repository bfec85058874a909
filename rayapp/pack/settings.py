"""Settings of pack."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.given_images import GivenImages


class PackSettings(GivenImages):
    """Pack images into lossless tiles, from which crops are read fast."""

    codec: Literal["webp", "zstd"] = Field(
        "webp", description="of the tiles: webp is small, zstd larger and faster to read"
    )
    tile_px: int = Field(128, ge=16, le=1024, description="side of a tile in px")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.needs_root()
        return self
