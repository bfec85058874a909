"""What lists tell by themselves: sizes, repeats, overlaps, lists made of parts, balance."""

import functools
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import Field

from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.dataset.labels import AnnotationList, Item, LabelScheme, item_id

# Part of a list's name → what its images are for; the first that fits.
ROLES = ("calib", "calibration"), ("anchor", "anchor"), ("train", "train"), ("head", "head")
TEST = "test"
# Whose images may not be in whose: what was learnt or tuned on tells nothing of a test.
APART = (
    ("train", TEST),
    ("head", TEST),
    ("calibration", TEST),
    ("anchor", TEST),
    ("train", "calibration"),
    ("head", "calibration"),
)
_FAR = 0.01  # of a list's rows: a share that differs more from the published one is told
_PUBLISHED = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Listed:
    """One list with its role; items by id, each once."""

    name: str
    role: str
    rows: Sequence[Item]
    scheme: LabelScheme
    defects: Sequence[str] = ()
    labels: dict[str, tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        labels = {item_id(item.path): item.labels for item in self.rows}
        object.__setattr__(self, "labels", labels)

    @classmethod
    def of(cls, read: AnnotationList, name: str, role: str) -> "Listed":
        """A list that was read."""
        return cls(name, role, read.items, read.scheme, [str(one) for one in read.defects])

    @cached_property
    def real(self) -> frozenset[str]:
        """Ids of the real images."""
        return frozenset(one for one, labels in self.labels.items() if labels[self._at] == 0)

    @property
    def _at(self) -> int:
        return list(self.scheme.columns).index("origin")

    @property
    def num_real_rows(self) -> int:
        """Rows of real images, repeats too."""
        return sum(item.labels[self._at] == 0 for item in self.rows)

    @cached_property
    def generators(self) -> frozenset[int]:
        """Generator codes of its synthetic images; empty where the scheme has none."""
        columns = list(self.scheme.columns)
        if "generator" not in columns:
            return frozenset()
        at = columns.index("generator")
        return frozenset(
            labels[at]
            for labels in self.labels.values()
            if labels[self._at] != 0 and len(labels) > at
        )

    @property
    def facts(self) -> dict[str, object]:
        """The list in numbers."""
        return {
            "list": self.name,
            "role": self.role,
            "rows": len(self.rows),
            "different": len(self.labels),
            "real": len(self.real),
            "synthetic": len(self.labels) - len(self.real),
            "defects": len(self.defects),
        }


def role_of(name: str) -> str:
    """What a list is for, by its name: `…calib…`, `…anchor…`, `…train…`, `…head…`, else test."""
    stem = PurePosixPath(name).name.lower()
    return next((role for part, role in ROLES if part in stem), TEST)


def names_of(uris: Sequence[str]) -> list[str]:
    """The file names, with as much of the folder as tells them apart."""
    depth = 1
    while True:
        names = ["/".join(uri.split("/")[-depth:]) for uri in uris]
        if len(set(names)) == len(set(uris)) or depth > max(uri.count("/") for uri in uris):
            return names
        depth += 1


def overlaps(lists: Sequence[Listed]) -> list[dict[str, object]]:
    """Any two lists that share images: how many, and how many of those are real."""
    found: list[dict[str, object]] = []
    for one, other in itertools.combinations(lists, 2):
        both = one.labels.keys() & other.labels.keys()
        if both:
            real = len(both & one.real)
            found.append(
                {
                    "first": one.name,
                    "second": other.name,
                    "shared": len(both),
                    "of_first": len(one.labels),
                    "of_second": len(other.labels),
                    "real": real,
                    "synthetic": len(both) - real,
                }
            )
    return found


def contradictions(lists: Sequence[Listed]) -> list[str]:
    """Images whose labels differ between lists; of a short form, what it has is compared."""
    seen: dict[str, tuple[tuple[int, ...], str]] = {}
    found = []
    for one in lists:
        for name, labels in one.labels.items():
            before, source = seen.setdefault(name, (labels, one.name))
            if any(a != b for a, b in zip(labels, before, strict=False)):
                found.append(f"{name}: {labels} in {one.name}, {before} in {source}")
    return found


def families(lists: Sequence[Listed]) -> list[dict[str, object]]:
    """Test lists of one generator each that make up a larger one: do they use it, and once?"""
    test = [one for one in lists if one.role == TEST]
    found: list[dict[str, object]] = []
    for whole in test:
        parts = _parts(whole, test)
        if len(parts) < 2:
            continue
        used = frozenset().union(*(part.labels for part in parts))
        used_real = frozenset().union(*(part.real for part in parts))
        in_several = Counter(name for part in parts for name in part.real)
        found.append(
            {
                "whole": whole.name,
                "parts": [part.name for part in parts],
                "real_rows": sum(part.num_real_rows for part in parts),
                "real_different": len(used_real),
                "real_shared_by_parts": sum(count > 1 for count in in_several.values()),
                "real_never_used": len(whole.real - used_real),
                "synthetic_rows": sum(len(p.rows) - p.num_real_rows for p in parts),
                "synthetic_never_used": len((whole.labels.keys() - whole.real) - used),
            }
        )
    return found


def _parts(whole: Listed, test: Sequence[Listed]) -> list[Listed]:
    return [
        one
        for one in test
        if one is not whole
        and len(one.generators) == 1
        and len(whole.generators) > 1
        and one.labels.keys() <= whole.labels.keys()
    ]


def leaks(lists: Sequence[Listed]) -> list[dict[str, object]]:
    """Lists whose images stand, by path, in lists that they must be apart from (`APART`)."""
    found: list[dict[str, object]] = []
    for one in lists:
        for role in [other for mine, other in APART if mine == one.role]:
            kept_apart = [other.labels for other in lists if other.role == role]
            inside = one.labels.keys() & frozenset().union(*kept_apart)
            if inside:
                found.append(
                    {
                        "list": one.name,
                        "role": one.role,
                        "items": len(one.labels),
                        "shared": len(inside),
                        "with": role,
                    }
                )
    return found


def sources(lists: Sequence[Listed]) -> list[dict[str, object]]:
    """Calibration lists: which test lists of one generator their real images come from."""
    test = [one for one in lists if one.role == TEST]
    most = max((len(one.generators) for one in test), default=0)
    parts = [one for one in test if most > 1 and len(one.generators) == 1]
    return [
        {
            "list": one.name,
            "real": len(one.real),
            "parts": len(parts),
            "real_from": {p.name: len(one.real & p.real) for p in parts if one.real & p.real},
        }
        for one in lists
        if one.role == "calibration"
    ]


# --- balance ----------------------------------------------------------------------------------


class Part(Settings):
    """One cell of the published composition."""

    content: int = Field(description="content code")
    models: tuple[int, ...] = Field(description="model codes that are counted together")
    images: int = Field(description="published number")


class Published(Settings):
    """The published composition of a dataset."""

    scheme: str
    source: str
    images: int
    parts: tuple[Part, ...]


@functools.cache
def published() -> Published:
    """The composition of ImagiNet, with its source."""
    return parse_yaml(_PUBLISHED, Published)


@dataclass(frozen=True)
class Cell:
    """Different images of a list by content and maker; `published` None: nothing to compare."""

    list: str
    content: str
    maker: str
    images: int
    share: float
    published: float | None


def balance(listed: Listed) -> list[Cell]:
    """A list by content and model (or generator, or origin: what the scheme has)."""
    columns = list(listed.scheme.columns)
    maker = next(name for name in ("model", "generator", "origin") if name in columns)
    content = columns.index("content") if "content" in columns else None
    at = columns.index(maker)
    counts: Counter[tuple[int | None, int | None]] = Counter(
        (None if content is None else labels[content], labels[at] if at < len(labels) else None)
        for labels in listed.labels.values()
    )
    known = _comparable(listed, counts)
    merged: Counter[tuple[int | None, tuple[int | None, ...]]] = Counter()
    for (of, code), count in counts.items():
        part = known.get((of, code))
        merged[of, part.models if part else (code,)] += count
    cells = []
    for (of, codes), count in sorted(merged.items(), key=str):
        names = [listed.scheme.names(maker)[code] for code in codes if code is not None]
        part = known.get((of, codes[0]))
        cells.append(
            Cell(
                listed.name,
                "" if of is None else listed.scheme.names("content")[of],
                " + ".join(names) or "not said",
                count,
                count / len(listed.labels),
                part.images / published().images if part else None,
            )
        )
    return cells


def _comparable(
    listed: Listed, counts: Mapping[tuple[int | None, int | None], int]
) -> dict[tuple[int | None, int | None], Part]:
    """The published parts by content and model, where the list is a whole split of that data."""
    known = published()
    models = {model for part in known.parts for model in part.models}
    whole = models == {model for _, model in counts}
    if listed.scheme.name != known.scheme or listed.role not in {TEST, "train"} or not whole:
        return {}
    return {(part.content, model): part for part in known.parts for model in part.models}


def off_balance(cells: Sequence[Cell]) -> list[str]:
    """The cells whose share differs from the published one by more than a hundredth."""
    return [
        f"{one.content} {one.maker}: {one.share:.1%} of {one.list}, published {one.published:.1%}"
        for one in cells
        if one.published is not None and abs(one.share - one.published) > _FAR
    ]
