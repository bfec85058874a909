"""Augmented crops of a list's items, by epoch and index: what a data loader reads.

Shapes: N images of this rank's part of a step · H W C · 4 label columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from typing import Protocol as Interface

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError, pixels_of
from rayapp.dataset.tiles import INDEX_FILE, TileIndex
from rayapp.storage.uris import open_store
from rayapp.transforms.draws import Dice
from rayapp.transforms.perturbations import PLAIN
from rayapp.transforms.plans import apply, split_window

if TYPE_CHECKING:
    from rayapp.storage.store import Store
    from rayapp.train.data.items import TrainItem
    from rayapp.transforms.operations import ImageHWC, SizeHW, Window
    from rayapp.transforms.perturbations import Perturbation


@dataclass(frozen=True)
class Batch:
    """This rank's part of a step; what could not be read is missing, and named.

    `inputs` are images uint8 [N, H, W, C], or features float32 [N, C].
    """

    inputs: Tensor
    labels_N4: Tensor
    targets_N: Tensor
    failures: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets_N)

    def pin_memory(self) -> Batch:
        """In page-locked memory, from which a GPU copies while it computes; torch calls this."""
        inputs, labels_N4, targets_N = (
            tensor.pin_memory() for tensor in (self.inputs, self.labels_N4, self.targets_N)
        )
        return Batch(inputs, labels_N4, targets_N, self.failures)


class Picture(Interface):
    """An image whose size is known and whose windows can be read."""

    @property
    def size_HW(self) -> SizeHW:
        """Height and width in px."""

    def read(self, window: Window) -> ImageHWC:
        """The pixels of a window, RGB uint8 [H, W, 3]."""


class PictureSource(Interface):
    """Where pictures come from: files, or a tile store."""

    def open(self, item: TrainItem) -> Picture:
        """The item's picture; ImageError or OSError where it can't be read."""


class DecodedPicture:
    """A picture whose pixels are all in memory."""

    def __init__(self, pixels_HWC: ImageHWC) -> None:
        self._pixels_HWC = pixels_HWC

    @property
    def size_HW(self) -> SizeHW:
        """Height and width in px."""
        return (self._pixels_HWC.shape[0], self._pixels_HWC.shape[1])

    def read(self, window: Window) -> ImageHWC:
        """A view of the window."""
        top, left, height, width = window
        return self._pixels_HWC[top : top + height, left : left + width]


class FileSource:
    """Image files under a root, decoded whole."""

    def __init__(self, root: Store) -> None:
        self._root = root

    def open(self, item: TrainItem) -> Picture:
        """The decoded file."""
        return DecodedPicture(pixels_of(self._root.get(item.path)))


@dataclass(frozen=True)
class Unreadable:
    """An item that could not be read, and why."""

    id: str
    reason: str


class Crops(Dataset["tuple[ImageHWC, TrainItem] | Unreadable"]):
    """The crop of (epoch, index): its augmentation is drawn from seed, epoch and item id alone.

    `shared_draws`: chance that images of one group, and one size, are cut and disturbed alike.
    """

    def __init__(
        self,
        items: Sequence[TrainItem],
        root: str,
        perturbation: Perturbation,
        seed: int,
        second: Perturbation | None = None,
        source: PictureSource | None = None,
        shared_draws: float = 0.0,
    ) -> None:
        self.items, self._root, self._perturbation, self._seed = items, root, perturbation, seed
        self._second, self._shared_draws = second, shared_draws
        self._source = source

    def __getitem__(self, key: tuple[int, int]) -> tuple[ImageHWC, TrainItem] | Unreadable:
        epoch, index = key
        return self.read(self.items[index], epoch)

    def read(self, item: TrainItem, epoch: int) -> tuple[ImageHWC, TrainItem] | Unreadable:
        """The item with its crop, or why there is none."""
        try:
            return self.crop(item, epoch), item
        except (ImageError, OSError) as error:
            return Unreadable(item.id, f"{type(error).__name__}: {error}")

    def crop(self, item: TrainItem, epoch: int) -> ImageHWC:
        """RGB uint8 [H, W, 3] after augmentation, or [2, H, W, 3]; only what is seen is read."""
        if self._source is None:  # opened by the process that reads
            self._source = open_source(self._root)
        picture = self._source.open(item)
        first_HWC = self._view(picture, self._perturbation, item, epoch)
        if self._second is None:
            return first_HWC
        second_HWC = self._view(picture, self._second, item, epoch)
        if second_HWC.shape != first_HWC.shape:
            raise ImageError(f"views of {first_HWC.shape} and {second_HWC.shape}: set crop_px")
        return np.stack([first_HWC, second_HWC])

    def _view(
        self, picture: Picture, perturbation: Perturbation, item: TrainItem, epoch: int
    ) -> ImageHWC:
        drawn_for = self._drawn_for(item, epoch)
        plans = perturbation.draw(picture.size_HW, drawn_for, self._seed, epoch)
        if PLAIN not in plans:
            raise ImageError(f"{picture.size_HW} is too small for perturbation {perturbation.name}")
        window, rest = split_window(plans[PLAIN], picture.size_HW)
        return apply(rest, picture.read(window))

    def _drawn_for(self, item: TrainItem, epoch: int) -> str:
        """Whose draws an item gets: its own, or those that all of its group get in this epoch."""
        if not (item.group and self._shared_draws):
            return item.id
        dice = Dice(self._seed, "shared draws", item.group, epoch)
        return f"group {item.group}" if dice.chance(self._shared_draws) else item.id


class TileSource:
    """Images of a tile store, of which only the tiles looked at are decoded."""

    def __init__(self, root: Store) -> None:
        self._index = TileIndex(root)

    def open(self, item: TrainItem) -> Picture:
        """The picture in the store."""
        return self._index.picture(item.path)


def open_source(root: str) -> PictureSource:
    """The pictures under a root: a tile store's, where it is one."""
    cv2.setNumThreads(1)  # its threads would fight over the CPUs that Ray has dealt out
    store = open_store(root)
    return TileSource(store) if manifest.is_there(store, INDEX_FILE) else FileSource(store)


def collate(read: Sequence[tuple[ImageHWC, TrainItem] | Unreadable]) -> Batch:
    """One batch of what could be read."""
    good = [one for one in read if not isinstance(one, Unreadable)]
    failures = {one.id: one.reason for one in read if isinstance(one, Unreadable)}
    if not good:
        return Batch(torch.empty(0), torch.empty(0), torch.empty(0), failures)
    return Batch(
        torch.stack([torch.from_numpy(pixels_HWC) for pixels_HWC, _ in good]),
        torch.tensor([item.labels for _, item in good]),
        torch.tensor([item.target for _, item in good]),
        failures,
    )
