"""Annotate on Ray Data: every image read once for its hashes, then dealt to lists."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rayapp.annotate.folder_layout import Labelled
from rayapp.annotate.found_images import find
from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.split import parse_shares
from rayapp.annotate.words import SYNTHETIC
from rayapp.annotate.written_lists import SCHEME, list_name, name_fault, write
from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.among_files import describe_left_out
from rayapp.dataset.images import decode, perceptual_hash, sha256
from rayapp.run import record, row_work
from rayapp.run.commands import command
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.store import Store

_BATCH = 16
_FACTS = manifest.schema(extra={"perceptual_hash": pa.string()})


def annotate(settings: AnnotateSettings) -> record.Run:
    """Write the lists; counts and misses are in the run that is returned.

    Raises:
        UserError: no image, a layout that fits none, an unknown generator, a split left empty.
    """
    if settings.split:
        parse_shares(settings.split)
    found = find(settings)
    root, images = found.root, found.images
    known = sorted({one.generator for one in images if one.origin == SYNTHETIC})
    _check_names(root, images, known)
    for name in settings.hold_out:
        if name not in known:
            raise UserError(f"--hold-out {name}: no such generator (known: {', '.join(known)})")
    labelled = [
        "\0".join((o.path, o.origin, o.generator, o.content, o.group, o.subset)) for o in images
    ]
    inputs = {"images": record.digest(root.root.encode(), *(t.encode() for t in sorted(labelled)))}
    run = record.start(
        "annotate", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run, retry_failed=True):
        return run
    with on_demand(settings):
        table = map_rows(
            pa.table(
                {
                    "id": pa.array([o.path for o in images]),
                    "path": pa.array([o.path for o in images]),
                }
            ),
            HashRows(root),
            _FACTS,
            run=run,
            batch_size=_BATCH,
            wait_s=settings.wait_s,
        ).table()
    write(run, found, table, settings)
    if not run.counts["failed"]:
        drop_parts(run.store)
    return run


def _check_names(root: Store, images: Sequence[Labelled], generators: Sequence[str]) -> None:
    for one in images:
        if one.path.encode("utf-8", "ignore").decode() != one.path:
            shown = one.path.encode("utf-8", "backslashreplace").decode()
            raise UserError(f"{root.root}/{shown}: a file name that is not UTF-8; rename the file")
    lists: dict[str, str] = {}
    for name in generators:
        if (other := lists.setdefault(list_name(name), name)) != name:
            raise UserError(
                f"generators {other!r} and {name!r} would share one test list; rename one's folder"
            )


@dataclass
class HashRows:
    """Row work: an image decoded whole, and its hashes by bytes and by look."""

    root: Store

    def setup(self) -> None:
        """Nothing to load."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The facts of each image."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        fault = name_fault(row["path"])
        if fault:
            raise UserError(fault)
        try:
            data = self.root.get(row["path"])
        except (FileNotFoundError, IsADirectoryError):
            raise UserError("no such file") from None
        image = decode(data)
        return {
            "sha256": sha256(data),
            "bytes": len(data),
            "format": image.format,
            "width": image.width,
            "height": image.height,
            "perceptual_hash": perceptual_hash(image.pixels_HWC),
        }


def next_command(run: record.Run) -> str:
    """Training, or the measuring of a detector where there is a test alone."""
    lists = run.store.uri("lists")
    common = {"scheme": run.store.uri(SCHEME), "root": run.results["root"]}
    if not run.counts["train"]:
        test = f"{lists}/test.txt"
        return command("evaluate", detector="DETECTOR", annotations=test, **common, output="DIR")
    return command(
        "train",
        config="demo",
        annotations=f"{lists}/train.txt",
        head_annotations=f"{lists}/head.txt",
        **common,
        output="DIR",
    )


def describe_reading(run: record.Run, settings: AnnotateSettings) -> None:
    """Which layout was read, and what became of a published split."""
    if layout := run.results["layout"]:
        how = "" if settings.layout else ", recognised by the folders' names"
        print(f"read as --layout {shlex.quote(layout)}{how}")
    if others := run.results.get("no_images"):
        print(f"left out, no images: {describe_left_out(Counter(others))}")
    for folder, lists in run.results.get("by_folder", {}).items():
        shares = ", ".join(f"{name} {count:,}" for name, count in lists.items())
        print(f"split kept: {folder or 'elsewhere'} → {shares}")
    if left_out := run.counts.get("left out"):
        print(
            f"left out of all lists: {left_out:,} images, of held-out generators outside of the "
            "test folder or of a calibration folder and like others"
        )
    makers = {row["generator"] for row in run.results["by_generator"]}
    if not run.counts["train"] and (makers == {"real"} or "real" not in makers):
        kind = "real" if makers == {"real"} else "synthetic"
        print(f"all images are {kind}: a test list alone")
