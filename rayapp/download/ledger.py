"""What was done, row by row, with provenance: the ledger that a run resumes from.

Parts are written as work goes on, each after the images it tells of, under names of their own, so
that two drivers or two attempts never overwrite each other; of several rows of one path the last
good one counts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from rayapp.config.defaults import __version__
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError, decode, open_image
from rayapp.dataset.labels import LabelScheme
from rayapp.download.origins.catalogue import Source
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.wanted import STATE
from rayapp.storage.store import Stat, Store

Row = dict[str, Any]

PROVENANCE = {
    "attribution": pa.string(),
    "origin_uri": pa.string(),
    "archive_etag": pa.string(),
    "archive_bytes": pa.int64(),
    "member": pa.string(),
    "offset": pa.int64(),
    "crc32": pa.int64(),
    "pixel_md5": pa.string(),
    "route": pa.string(),
    "retrieved_at": pa.string(),
    "tool_version": pa.string(),
    "etag": pa.string(),
}


def schema(scheme: LabelScheme) -> pa.Schema:
    """Columns of the ledger and of the manifest that is made of it."""
    return manifest.schema(scheme, PROVENANCE)


def write(store: Store, source: str, rows: list[Row], wanted: pa.Schema) -> None:
    """Write one part; the images it tells of are in place already."""
    name = f"{STATE}/ledger/{source}/{secrets.token_hex(12)}.parquet"
    manifest.write_table(store, name, manifest.from_rows(rows, wanted))


def parts(store: Store, source: str) -> Iterator[pa.Table]:
    """The parts that can be read; a damaged one is as if its rows had not been done."""
    for stat in list(store.list(f"{STATE}/ledger/{source}/")):
        try:
            yield manifest.parse_table(store.get(stat.key))
        except (pa.ArrowInvalid, OSError):
            continue


def best_rows(store: Store, source: str) -> dict[str, Row]:
    """Path → its row: the last good one, else the last."""
    best: dict[str, Row] = {}
    for part in parts(store, source):
        for row in part.to_pylist():
            if row["path"] not in best or _rank(row) > _rank(best[row["path"]]):
                best[row["path"]] = row
    return best


def _rank(row: Row) -> tuple[bool, str]:
    return row["status"] == manifest.STATUS_OK, row["retrieved_at"] or ""


def still_good(store: Store, row: Row | None, found: Stat | None) -> bool:
    """Whether the file of a good row is still the one that was written.

    Equal size and etag (it changes with every replacement) are enough; else the file is hashed.
    """
    if row is None or found is None or row["status"] != manifest.STATUS_OK:
        return False
    if found.size != row["bytes"]:
        return False
    if found.etag == row["etag"]:
        return True
    return hashlib.sha256(store.get(found.key)).hexdigest() == str(row["sha256"])


def found_good(
    store: Store, source: Source, name: str, wanted: Row, best: Mapping[str, Row]
) -> Row | None:
    """The good row of a wanted file that is in place: by the ledger, else by what must be in it.

    Without a ledger row that is its size and CRC-32 in the archive, or the checksum of its list.
    """
    found = store.stat(wanted["path"])
    if found is None:
        return None
    before = best.get(wanted["path"])
    if still_good(store, before, found):
        return before
    check = wanted.get("check") or ""
    pixels = check.startswith("pixels:")
    if wanted.get("crc32") is None and not check:
        return None
    if wanted.get("crc32") is not None and found.size != wanted["usize"]:
        return None
    content = store.get(wanted["path"])
    if wanted.get("crc32") is not None and zlib.crc32(content) != wanted["crc32"]:
        return None
    try:
        good = good_row(wanted, source, name, content, checked=not pixels, pixels=pixels)
    except Fault:
        return None
    if wrong(content, check, name) or (pixels and not same_pixels(good, check)):
        return None
    return {**good, "route": "present", "etag": found.etag}


def wrong(content: bytes, check: str, what: str) -> Fault | None:
    """The fault when a checksum `kind:hex` of the bytes is not the content's, else None."""
    kind, _, wanted = check.partition(":")
    if kind in ("", "pixels"):
        return None
    if kind == "git":
        head = f"blob {len(content)}\0".encode()
        given = hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
    else:
        given = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if given == wanted:
        return None
    return Fault(Action.FAIL, f"{what}: its {kind} is {given}, {wanted} is wanted")


def same_pixels(good: Row, check: str) -> bool:
    """Whether a row's pixel md5 is that of its check `pixels:md5`."""
    return bool(good["pixel_md5"] == check.removeprefix("pixels:"))


def good_row(
    wanted: Row, source: Source, name: str, content: bytes, *, checked: bool, pixels: bool
) -> Row:
    """The ledger row of a file that arrived.

    Args:
        wanted: path, id, labels and, where known, origin, member and so on.
        source: the catalogue's entry.
        name: its name.
        content: the file.
        checked: whether a checksum of the origin vouched for it; else an image is decoded in full.
        pixels: whether the md5 of the decoded RGB array is recorded.

    Raises:
        Fault: FAIL where an image is wanted and the content is none, or is cut.
    """
    row: Row = {
        **wanted,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "source": name,
        "licence": source.licence_of(wanted["path"]),
        "attribution": source.attribution,
        "status": manifest.STATUS_OK,
        "error": "",
        "retrieved_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "tool_version": __version__,
    }
    if source.kind != "images":
        return row
    if checked and not pixels:
        return row | _header(content)
    try:
        image = decode(content, published=True)
    except ImageError as error:
        raise Fault(Action.FAIL, str(error)) from error
    row |= {"width": image.width, "height": image.height, "format": image.format}
    if pixels:
        row["pixel_md5"] = hashlib.md5(
            image.pixels_HWC.tobytes(), usedforsecurity=False
        ).hexdigest()
    return row


def _header(content: bytes) -> Row:
    """Format and size by the file's header; the origin's checksum vouched for the rest."""
    try:
        image = open_image(content)
    except ImageError as error:
        raise Fault(Action.FAIL, str(error)) from error
    return {"width": image.width, "height": image.height, "format": str(image.format)}


def bad_row(wanted: Row, source: Source, name: str, reason: str) -> Row:
    """The ledger row of a file that did not arrive."""
    return {
        **wanted,
        "source": name,
        "licence": source.licence_of(wanted["path"]),
        "status": manifest.STATUS_FAILED,
        "error": reason,
        "retrieved_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "tool_version": __version__,
    }


def misses_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """`misses.csv`: what did not come, and why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "source", "reason"])
    writer.writerows([row["path"], row["source"], row["error"]] for row in rows)
    return text.getvalue().encode()
