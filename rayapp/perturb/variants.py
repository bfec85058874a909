"""The work on one image: its size, or its variants written under their names."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, open_image, pixel_sha256, pixels_of, sha256
from rayapp.dataset.members import read_image
from rayapp.dataset.shards import SHARD_ROWS
from rayapp.perturb.manifest_rows import output_path
from rayapp.run import row_work
from rayapp.storage.store import Store
from rayapp.transforms.codecs import encode_lossless
from rayapp.transforms.operations import SizeHW
from rayapp.transforms.perturbations import PLAIN, Perturbation
from rayapp.transforms.plans import Plan, apply_each

_THREADS = 4  # of a worker: one computes while the others read and write
_HEADER_BYTES = 64 * 1024


@dataclass
class SizeRows:
    """Row work: height and width of an image, from its header."""

    root: Store
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    def setup(self) -> None:
        """Reading a header is mostly waiting for it."""
        self._threads = ThreadPoolExecutor(_THREADS)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The size of each image."""
        return row_work.each(batch, self._one, self._threads)

    def _one(self, row: row_work.Row) -> row_work.Row:
        try:
            head = self.root.get_range(row["path"], 0, _HEADER_BYTES)
            width, height = open_image(head).size
        except (OSError, ImageError):  # the header goes on, or stands at the end
            width, height = open_image(_read(self.root, row)).size
        return {"width": width, "height": height}


@dataclass
class PerturbRows:
    """Row work: one source image in, its variants written; a pure function of bytes and id.

    `published`: sources are decoded as the published protocol saw them.
    """

    root: Store
    output: Store
    perturbation: Perturbation
    seed: int
    published: bool = False
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    def setup(self) -> None:
        """OpenCV's own threads would fight over the CPUs that Ray has dealt out."""
        cv2.setNumThreads(1)
        self._threads = ThreadPoolExecutor(_THREADS)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Every variant of each image, written under its name."""
        return row_work.each(batch, self._one, self._threads)

    def _one(self, row: row_work.Row) -> row_work.Row:
        data = _read(self.root, row)
        pixels_HWC = pixels_of(data, published=self.published)
        height, width = pixels_HWC.shape[:2]
        plans = self._plans(row, (height, width))
        outputs = []
        for variant, changed_HWC in apply_each(plans, pixels_HWC):
            file = encode_lossless(changed_HWC)
            path = output_path(row["name"], variant)
            self.output.put(path, file)
            outputs.append(
                {
                    "variant": variant,
                    "path": path,
                    "sha256": sha256(file),
                    "pixel_sha256": pixel_sha256(changed_HWC),
                    "bytes": len(file),
                    "width": changed_HWC.shape[1],
                    "height": changed_HWC.shape[0],
                    "plan": plans[variant].to_json(),
                }
            )
        source = {"source_sha256": sha256(data), "height": height, "width": width}
        return {**source, "outputs": outputs}

    def _plans(self, row: row_work.Row, size_HW: SizeHW) -> dict[str, Plan]:
        if row.get("fault"):
            raise UserError(row["fault"])
        if row.get("plan"):
            return {PLAIN: Plan.from_json(row["plan"])}
        return self.perturbation.draw(size_HW, row["id"], self.seed)


class StreamedVariants(PerturbRows):
    """As `PerturbRows`, of rows that come without the name of their image: their number is it."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Every variant of each image, written under its name."""
        # A column of the set's own that is called as ours, `plan`, is none of ours.
        given = [{**row, "name": number_name(row["row"]), "plan": None} for row in batch]
        return super().batch(given)


def number_name(number: int) -> str:
    """`testset/<shard>/<row of the shard>.webp`, of a row's number in its set."""
    shard, row = divmod(number, SHARD_ROWS)
    return f"testset/{shard:06d}/{row:09d}.webp"


def _read(root: Store, row: row_work.Row) -> bytes:
    try:
        return read_image(root, row)
    except FileNotFoundError:
        raise UserError(f"{root.uri(row['path'])}: no such file") from None
