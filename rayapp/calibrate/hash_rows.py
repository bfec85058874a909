"""The work on one image: its bytes' sha256 and a hash of its look."""

from collections.abc import Sequence

from rayapp.dataset.images import decode, perceptual_hash, sha256
from rayapp.run import row_work
from rayapp.storage.store import Store


class HashRows:
    """Row work: bytes and look of each image."""

    def __init__(self, root: Store) -> None:
        self.root = root

    def setup(self) -> None:
        """Nothing to load."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """sha256 and perceptual hash a row, or why there are none."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        data = self.root.get(row["path"])
        digest = sha256(data)
        return {"sha256": digest, "perceptual_hash": perceptual_hash(decode(data).pixels_HWC)}
