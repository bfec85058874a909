"""Files of equal bytes in tables of any number: hash by hash, in parts that add up.

What is known of the files of one hash is their number and the first and last of their paths, of
all, of those labelled real and of those labelled synthetic: sums, minima and maxima, which are the
same whatever the order in which parts are put together.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

_HOW = {"files": "sum", "first": "min", "last": "max", "real": "min", "made": "min"}
_SCHEMA = pa.schema(
    [("sha256", pa.string()), ("files", pa.int64())]
    + [(name, pa.string()) for name in ("first", "last", "real", "made")]
)
COLUMNS = ("path", "sha256", "origin")  # of images, the last where labels are known
MOST = 20  # groups that are named

# Files, and the first and last path, of those of one hash; paths of a real and a synthetic one.
Group = tuple[int, str, str]
Clash = tuple[str, str]


@dataclass
class Repeats:
    """What files repeat: how many files and groups, the largest groups and the first clashes.

    Attributes:
        files: those beside the first of each group.
        groups: hashes that several paths share.
        clashes: of these, those labelled both real and synthetic.
        largest: at most `MOST` groups, the largest first.
        clashing: at most `MOST` clashes, by path.
    """

    files: int = 0
    groups: int = 0
    clashes: int = 0
    largest: list[Group] = field(default_factory=list)
    clashing: list[Clash] = field(default_factory=list)

    def merge(self, other: "Repeats") -> None:
        """As one over the hashes of both, which share none."""
        self.files += other.files
        self.groups += other.groups
        self.clashes += other.clashes
        self.largest = sorted(self.largest + other.largest, key=_order)[:MOST]
        self.clashing = sorted(self.clashing + other.clashing)[:MOST]

    def to_json(self) -> str:
        """As workers hand it on."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Repeats":
        """What `to_json` wrote."""
        given = json.loads(text)
        pairs = {name: [tuple(one) for one in given[name]] for name in ("largest", "clashing")}
        return cls(**given | pairs)

    def lines(self, most: int) -> list[str]:
        """The largest groups in words."""
        return [
            f"{first} = {last}" + (f" and {files - 2:,} more" if files > 2 else "")
            for files, first, last in self.largest[:most]
        ]


def _order(group: Group) -> tuple[int, str, str]:
    return -group[0], group[1], group[2]


def by_hash(images: pa.Table) -> pa.Table:
    """The files of some images, one row a hash; of images without a hash nothing is known.

    Args:
        images: a table with `COLUMNS`; origin 0 is real.
    """
    images = images.filter(pc.is_valid(images["sha256"]))
    paths = images["path"]
    sides = {name: pa.nulls(images.num_rows, pa.string()) for name in ("real", "made")}
    if "origin" in images.column_names and pa.types.is_integer(images.schema.field("origin").type):
        real = pc.equal(images["origin"], 0)
        sides = {"real": _where(real, paths), "made": _where(pc.invert(real), paths)}
    ones = pa.array([1] * images.num_rows, pa.int64())
    table = pa.table(
        {"sha256": images["sha256"], "files": ones, "first": paths, "last": paths, **sides}
    )
    return together([table.cast(_SCHEMA)])


def _where(mask: pa.ChunkedArray, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.fill_null(mask, False), paths, pa.scalar(None, paths.type))


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Several such tables as one, one row a hash."""
    whole = pa.concat_tables([_SCHEMA.empty_table(), *tables])
    found = whole.group_by("sha256").aggregate(list(_HOW.items()))
    return pa.table([found[_called(name)] for name in _SCHEMA.names], schema=_SCHEMA)


def _called(name: str) -> str:
    return f"{name}_{_HOW[name]}" if name in _HOW else name


def repeats_in(hashes: pa.Table) -> Repeats:
    """What repeats among hashes that are all there, one row each."""
    # A list may name an image often: that is one file.
    found = hashes.filter(pc.not_equal(hashes["first"], hashes["last"]))
    groups = zip(*(found[name].to_pylist() for name in ("files", "first", "last")), strict=True)
    clash = found.filter(pc.and_(pc.is_valid(found["real"]), pc.is_valid(found["made"])))
    clashing = zip(clash["real"].to_pylist(), clash["made"].to_pylist(), strict=True)
    return Repeats(
        files=int(pc.sum(found["files"]).as_py() or 0) - found.num_rows,
        groups=found.num_rows,
        clashes=clash.num_rows,
        largest=sorted(groups, key=_order)[:MOST],
        clashing=sorted(clashing)[:MOST],
    )


def repeats_of(tables: Sequence[pa.Table]) -> Repeats:
    """What repeats among the images of tables in memory."""
    return repeats_in(together(by_hash(one) for one in tables))
