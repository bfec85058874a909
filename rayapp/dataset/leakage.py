"""The guard: no image on which a detector was calibrated may be one that it is measured on.

Images are the same by path (unless their bytes are known to differ), by sha256, or by look.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri
from rayapp.dataset.labels import Item, item_id, load_scheme, read_list
from rayapp.dataset.near_duplicates import shared

ITEMS_FILE = "calibration.parquet"  # beside detector.json: the images it was calibrated on
COLUMNS = ("path", "sha256", "perceptual_hash")


def identities(items: Sequence[Item], known: Sequence[pa.Table]) -> pa.Table:
    """Path of each item, with sha256 and perceptual hash from the first table that knows them."""
    paths = [item_id(item.path) for item in items]
    columns: dict[str, list[str | None]] = {"path": paths}  # type: ignore[dict-item]
    for name in COLUMNS[1:]:
        values: dict[str, str] = {}
        for table in known:
            if name in table.column_names:
                pairs = zip(table["path"].to_pylist(), table[name].to_pylist(), strict=True)
                values |= {p: v for p, v in pairs if v and p not in values}
        columns[name] = [values.get(path) for path in paths]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def leaks(calibration: pa.Table, others: pa.Table) -> pa.Table:
    """The images of a calibration that are also in another set (near_duplicates.SHARED), once."""
    calibration, others = _filled(calibration), _filled(others)
    found = shared(calibration, others)
    bytes_of = [
        dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        for table in (calibration, others)
    ]
    differ = [
        how == "path" and len({bytes_of[0].get(path), bytes_of[1].get(other)} - {None}) == 2
        for path, other, how in zip(
            *(found[c].to_pylist() for c in ("path", "other", "how")), strict=True
        )
    ]
    return found.filter(pc.invert(pa.array(differ, pa.bool_())))


def _filled(table: pa.Table) -> pa.Table:
    """With every column of the comparison, null where nothing is known."""
    for column in COLUMNS:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, pa.string()))
    return table.select(list(COLUMNS))


def trained_on(provenance: Mapping[str, Any], root: str | None) -> set[str]:
    """Ids of the images under `root` that a detector says it was trained on.

    Lists that can't be read any more are left out.
    """
    own = provenance.get("settings", {}).get("root")
    if not own or not root or absolute_uri(own).rstrip("/") != absolute_uri(root).rstrip("/"):
        return set()
    lists = training_lists(provenance)
    return {item_id(one.path) for _, items in lists if isinstance(items, list) for one in items}


def training_lists(provenance: Mapping[str, Any]) -> Iterator[tuple[str, list[Item] | UserError]]:
    """URI of each list that a detector says it was trained on; its items, or why there are none."""
    recorded = provenance.get("settings", {})
    lists = [*(recorded.get("annotations") or ()), *(recorded.get("head_annotations") or ())]
    for uri in dict.fromkeys(lists):
        try:
            yield uri, read_list(uri, load_scheme(recorded["scheme"])).items
        except UserError as error:
            yield uri, error


def refuse(found: Sequence[tuple[str, pa.Table]], calibration: pa.Table, what_to_do: str) -> None:
    """Nothing where no calibration image leaks.

    Args:
        found: where images of the calibration are too, and the table of `leaks`.
        calibration: its images.
        what_to_do: the end of the message.

    Raises:
        UserError: how many leak, where and by which way, and the first of them.
    """
    hit = [(where, table) for where, table in found if table.num_rows]
    if not hit:
        return
    places = [f"{where} ({_ways(table)})" for where, table in hit]
    num_leaks = len({path for _, table in hit for path in table["path"].to_pylist()})
    first = hit[0][1].slice(0, 1).to_pylist()[0]
    other = f" ({first['other']})" if first["other"] != first["path"] else ""
    raise UserError(
        f"{num_leaks} of {len(set(calibration['path'].to_pylist()))} calibration images are in "
        f"{' and '.join(places)}; first: {first['path']}{other}; {what_to_do}"
    )


def _ways(found: pa.Table) -> str:
    ways = {"path": "by path", "sha256": "by sha256", "near": "by look"}
    counts = {row["values"]: row["counts"] for row in pc.value_counts(found["how"]).to_pylist()}
    return ", ".join(f"{counts[way]} {words}" for way, words in ways.items() if way in counts)
