"""What a prune would do: a decision a file, what is missing, and names that nearly match."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.prune.walk import DEAD_LINK, FOLDER_LINK, WALKED
from rayapp.run.record import RUN_FILE, START_FILE

KEEP, REMOVE, MISSING = "keep", "remove", "missing"
DECISIONS = pa.schema([*WALKED, pa.field("decision", pa.string()), pa.field("note", pa.string())])
# What our own jobs leave at the top of a root beside the images.
_OWN_FILES = (RUN_FILE, START_FILE, "manifest.parquet", "tiles.parquet", "misses.csv")
_OWN_FOLDERS = (".download/",)
_RUN_FOLDERS = ("parts/", "lists/")  # ours only where a run of ours lies beside them
_OURS = "a file of our own"
_SHOWN = 5


def decide(
    walked: pa.Table, annotated: Sequence[str], *, own: Sequence[str] = (), is_run: bool = False
) -> pa.Table:
    """One row a file or missing image (`DECISIONS`), sorted by path.

    Args:
        walked: what lies under the root (`WALKED`).
        annotated: the paths of all lists, as annotated, each once; compared letter by letter.
        own: further files, or folders with `/` at their end, that are ours and stay.
        is_run: whether the root holds a run of ours, and so its lists.
    """
    wanted = pa.array(annotated, pa.string())
    paths = walked["path"].combine_chunks()
    at = pc.index_in(paths, value_set=wanted)
    readable = pc.invert(pc.is_in(walked["kind"], pa.array([DEAD_LINK, FOLDER_LINK])))
    is_text = pc.is_null(walked["raw"])
    found = pc.and_(pc.and_(pc.is_valid(at), readable), is_text).combine_chunks()
    missing = _not_hit(wanted, at.filter(found))
    ours = _Own.of(own, is_run).mask(paths)
    notes, kept = _notes(walked, found, missing, wanted, ours)
    stays = pc.or_(found, ours)
    if kept:
        stays = pc.or_(stays, pa.array(at in kept for at in range(len(paths))))
    note = pa.nulls(len(paths), pa.string())
    if notes:
        note = pa.array([notes.get(at) for at in range(len(paths))], pa.string())
    decisions = walked.append_column("decision", pc.if_else(stays, KEEP, REMOVE))
    nothing = {name: pa.nulls(len(missing), DECISIONS.field(name).type) for name in DECISIONS.names}
    absent = nothing | {"path": missing, "decision": pa.repeat(MISSING, len(missing))}
    both = [
        decisions.append_column("note", note).cast(DECISIONS),
        pa.table(absent, schema=DECISIONS),
    ]
    return pa.concat_tables(both).sort_by([("path", "ascending"), ("decision", "ascending")])


def _not_hit(wanted: pa.Array, hits: pa.Array) -> pa.Array:
    left = np.ones(len(wanted), dtype=bool)
    left[hits.to_numpy(zero_copy_only=False)] = False
    return wanted.filter(pa.array(left))


@dataclass(frozen=True)
class _Own:
    """Names at the top of a root that are ours."""

    files: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, own: Sequence[str], is_run: bool) -> "_Own":
        files = _OWN_FILES + tuple(one for one in own if not one.endswith("/"))
        folders = _OWN_FOLDERS + tuple(one for one in own if one.endswith("/"))
        return cls(files, folders + (_RUN_FOLDERS if is_run else ()))

    def mask(self, paths: pa.Array) -> pa.Array:
        """Whether each path is ours."""
        ours = pc.is_in(paths, value_set=pa.array(self.files))
        for folder in self.folders:
            ours = pc.or_(ours, pc.starts_with(paths, folder))
        return ours


def _notes(
    walked: pa.Table, found: pa.Array, missing: pa.Array, wanted: pa.Array, ours: pa.Array
) -> tuple[dict[int, str], set[int]]:
    """Remarks by row of `walked`; and the rows that stay because annotated images lie behind."""
    paths = walked["path"].combine_chunks()
    notes, kept = dict.fromkeys(pc.indices_nonzero(ours).to_pylist(), _OURS), set()
    rest = pc.indices_nonzero(pc.invert(pc.or_(found, ours)))
    close = pc.index_in(_loose(paths.take(rest)), value_set=_loose(wanted))
    rows = rest.filter(close.is_valid()).to_pylist()
    for row, at in zip(rows, close.drop_null().to_pylist(), strict=True):
        name, other = paths[row].as_py(), wanted[at].as_py()
        if name != other:
            by = difference(name, other)
            notes[row] = f"differs from the annotated {other} only by {by}"
    for row in pc.indices_nonzero(pc.is_valid(walked["kind"])).to_pylist():
        kind, name = walked["kind"][row].as_py(), paths[row].as_py()
        if kind == DEAD_LINK:
            notes[row] = "a link to nothing"
        elif kind == FOLDER_LINK:
            notes[row] = "a link to a folder, not followed"
            behind = pc.sum(pc.starts_with(missing, f"{name}/")).as_py() or 0
            if behind:
                kept.add(row)
                notes[row] += f"; {behind:,} annotated images lie behind it"
    return notes, kept


def _loose(paths: pa.Array) -> pa.Array:
    """Paths without case, Unicode form and kind of separator."""
    if not (pc.all(pc.string_is_ascii(paths)).as_py() or not len(paths)):
        paths = pc.utf8_normalize(pc.utf8_lower(pc.utf8_normalize(paths, "NFC")), "NFC")
    return pc.replace_substring(pc.utf8_lower(paths), "\\", "/")


def difference(one: str, other: str) -> str:
    """By which of case, Unicode form and separator two loosely equal names differ."""
    kinds = []
    if one.replace("\\", "/") != one or other.replace("\\", "/") != other:
        kinds.append("separator")
        one, other = one.replace("\\", "/"), other.replace("\\", "/")
    nfc = [unicodedata.normalize("NFC", text) for text in (one, other)]
    if nfc != [one, other]:
        kinds.append("Unicode form")
    if nfc[0] != nfc[1]:
        kinds.append("case")
    return " and ".join(sorted(kinds)) or "nothing that shows"


def of(decisions: pa.Table, decision: str) -> pa.Table:
    """The rows of one decision."""
    return decisions.filter(pc.equal(decisions["decision"], decision))


def near_misses(decisions: pa.Table) -> list[str]:
    """Files that would go though their name is nearly an annotated one: `name note`."""
    close = decisions.filter(pc.fill_null(pc.starts_with(decisions["note"], "differs"), False))
    pairs = zip(close["path"].to_pylist(), close["note"].to_pylist(), strict=True)
    return [f"{path} {note}" for path, note in pairs]


@dataclass(frozen=True)
class Count:
    """Files and bytes of each decision in one top-level folder (`.`: the root itself)."""

    folder: str
    keep: int = 0
    keep_bytes: int = 0
    remove: int = 0
    remove_bytes: int = 0
    missing: int = 0


def by_folder(decisions: pa.Table) -> list[Count]:
    """The counts of each top-level folder, by name."""
    paths = decisions["path"]
    deep = pc.match_substring(paths, "/")
    parts = pc.split_pattern(paths, "/", max_splits=1)
    top = pc.if_else(deep, pc.list_element(parts, 0), ".")
    found = (
        pa.table({"top": top, "decision": decisions["decision"], "bytes": decisions["bytes"]})
        .group_by(["top", "decision"])
        .aggregate([("bytes", "sum"), ([], "count_all")])
    )
    counts: dict[str, dict[str, int]] = {}
    for row in found.to_pylist():
        count = counts.setdefault(row["top"], {})
        count[row["decision"]] = row["count_all"]
        if row["decision"] != MISSING:
            count[f"{row['decision']}_bytes"] = row["bytes_sum"] or 0
    return [Count(name, **counts[name]) for name in sorted(counts)]


def total(counts: Sequence[Count]) -> Count:
    """The counts of all folders together."""
    names = [one.name for one in fields(Count)[1:]]
    return Count("all", **{name: sum(getattr(count, name) for count in counts) for name in names})


def check_root(decisions: pa.Table, root: str) -> None:
    """UserError where the root holds none of the annotated images: the wrong root, most likely."""
    keep, missing = of(decisions, KEEP), of(decisions, MISSING)
    images = keep.filter(pc.fill_null(pc.not_equal(keep["note"], _OURS), True))
    if images.num_rows or not missing.num_rows:
        return
    close = near_misses(decisions)
    there = [*of(decisions, REMOVE)["path"].slice(0, 1).to_pylist(), "nothing"][0]
    hint = f"nearest: {close[0]}" if close else f"the first one there: {there}"
    raise UserError(
        f"{root}: --root holds none of the {missing.num_rows:,} annotated images (the first of "
        f"them: {missing['path'][0]}; {hint}); is it the folder that their paths start from?"
    )


def check_complete(decisions: pa.Table, root: str) -> None:
    """UserError where annotated images are missing."""
    missing = of(decisions, MISSING)
    if missing.num_rows:
        names = missing["path"].slice(0, _SHOWN).to_pylist()
        more = f" and {missing.num_rows - len(names):,} more" if missing.num_rows > _SHOWN else ""
        raise UserError(
            f"{root}: {missing.num_rows:,} annotated images are missing ({', '.join(names)}"
            f"{more}); nothing was removed; download them, or --allow-missing"
        )


def table_lines(counts: Sequence[Count]) -> list[str]:
    """The folders as an aligned table with a line for all."""
    rows = [("folder", "keep", "", "remove", "", "missing")]
    rows += [
        (
            one.folder,
            f"{one.keep:,}",
            size(one.keep_bytes),
            f"{one.remove:,}",
            size(one.remove_bytes),
            f"{one.missing:,}",
        )
        for one in [*counts, total(counts)]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def size(num_bytes: int) -> str:
    """`12.3 MB`."""
    value, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:,.0f} {units[0]}" if units[0] == "B" else f"{value:,.1f} {units[0]}"
