"""What a run that goes on may skip: decided here, for a whole stage and for its rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import JobFailed
from rayapp.dataset import manifest
from rayapp.storage.store import Store

if TYPE_CHECKING:
    from rayapp.run.record import Run

Verify = Callable[[pa.Table], pa.Table]


def is_there(store: Store, key: str) -> bool:
    """Whether a result, a file or a folder, is there."""
    return store.stat(key) is not None or next(store.list(f"{key}/"), None) is not None


def all_there(store: Store, found: Mapping[str, Any]) -> bool:
    """Whether what a finished run made is still there; says what is not."""
    gone = next((key for key in found.get("made", ()) if not is_there(store, key)), None)
    if gone is not None:
        print(f"{store.uri(gone)} is gone: {found['job']} is done again", file=sys.stderr)
    return gone is None


def nothing_left(run: Run, *, retry_failed: bool = False) -> bool:
    """Whether the whole stage is skipped: it is done, and its result is there.

    Args:
        run: as `record.start` found it.
        retry_failed: a row that failed may do well now, for its cause lies outside (a file that
            was not there yet): the stage is gone through again, its other rows are skipped.
    """
    return run.state == "done" and not (retry_failed and run.counts["failed"])


def sound_rows(table: pa.Table, verify: Verify | None = None) -> pa.Table:
    """The rows that are skipped: done without failure, and what they made still holds."""
    sound = table.filter(pc.equal(table["status"], manifest.STATUS_OK))
    return verify(sound) if verify and sound.num_rows else sound


def unchanged(table: pa.Table, listed: pa.Table, *, with_unsound: bool = False) -> pa.Table:
    """Sound rows whose file is still listed with the etag that it had.

    Args:
        table: rows of before.
        listed: the files of now.
        with_unsound: those too whose bytes could be read, and were no image.
    """
    keys = pa.array(_versions(listed), pa.string())
    same = pc.is_in(pa.array(_versions(table), pa.string()), value_set=keys)
    still = table.filter(same)
    return still.filter(pc.is_valid(still["sha256"])) if with_unsound else sound_rows(still)


def _versions(table: pa.Table) -> Iterable[str]:
    pairs = zip(table["id"].to_pylist(), table["etag"].to_pylist(), strict=True)
    return [f"{identity}\0{etag}" for identity, etag in pairs]


def outputs_there(store: Store) -> Verify:
    """Gives back the rows whose `outputs` are all there at their recorded size.

    Files arrive whole or not at all, so one of the right name and size is the one written; bytes
    changed afterwards are for the manifest's sha256 to tell.
    """
    sizes: dict[str, int] = {}

    def verify(finished: pa.Table) -> pa.Table:
        if not sizes:
            sizes.update((stat.key, stat.size) for stat in store.list())
        return finished.filter(
            pa.array(
                all(sizes.get(made["path"]) == made["bytes"] for made in outputs)
                for outputs in finished["outputs"].to_pylist()
            )
        )

    return verify


def check_still_there(run: Run, key: str) -> None:
    """A finished run whose images were removed since is not done.

    Args:
        run: the run.
        key: its manifest.

    Raises:
        JobFailed: images are gone.
    """
    whole = manifest.read_table(run.store, key)
    made = whole.filter(pc.equal(whole["status"], manifest.STATUS_OK))["path"]
    there = pa.array((stat.key for stat in run.store.list()), pa.string())
    gone = made.filter(pc.invert(pc.is_in(made, value_set=there)))
    if len(gone):
        raise JobFailed(
            f"{run.store.root}: {len(gone):,} images of the manifest are gone, first {gone[0]}; "
            "--overwrite makes the set anew"
        )
