"""The work on one image: its bytes' sha256 and a hash of its look; of a tile store the look."""

from collections.abc import Sequence

from rayapp.dataset import manifest
from rayapp.dataset.images import decode, perceptual_hash, sha256
from rayapp.dataset.tiles import INDEX_FILE, TileIndex
from rayapp.run import row_work
from rayapp.storage.store import Store
from rayapp.transforms.operations import Window


class HashRows:
    """Row work: bytes and look of each image."""

    def __init__(self, root: Store) -> None:
        self.root = root
        self._tiles: TileIndex | None = None

    def setup(self) -> None:
        """Load a tile store's index."""
        if manifest.is_there(self.root, INDEX_FILE):
            self._tiles = TileIndex(self.root)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """sha256 and perceptual hash a row, or why there are none."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        if self._tiles is not None:
            picture = self._tiles.picture(row["path"])
            pixels_HWC = picture.read(Window(0, 0, *picture.size_HW))
            return {"sha256": "", "perceptual_hash": perceptual_hash(pixels_HWC)}
        data = self.root.get(row["path"])
        digest = sha256(data)
        return {"sha256": digest, "perceptual_hash": perceptual_hash(decode(data).pixels_HWC)}
