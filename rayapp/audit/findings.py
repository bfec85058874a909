"""What an audit found, in sentences: what is wrong, and what is worth knowing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.audit import lists as of_lists
from rayapp.audit.inspected import REAL, SYNTHETIC, Inspected
from rayapp.audit.lists import APART, Listed
from rayapp.audit.shortcuts import OF_PIXELS, TOGETHER, Shortcut
from rayapp.dataset import near_duplicates
from rayapp.dataset.declared.declaration import KINDS, NOTHING
from rayapp.dataset.repeats import Repeats

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One finding; `wrong` ones make the job end with code 3, the others are remarks."""

    kind: str
    text: str
    count: int
    wrong: bool = True


def list_facts(lists: Sequence[Listed]) -> dict[str, Any]:
    """All that the lists tell without an image being read."""
    return {
        "lists": [one.facts for one in lists],
        "overlaps": of_lists.overlaps(lists),
        "leaks": of_lists.leaks(lists),
        "families": of_lists.families(lists),
        "calibration_sources": of_lists.sources(lists),
        "balance": [asdict(cell) for one in lists for cell in of_lists.balance(one)],
    }


def of_the_lists(lists: Sequence[Listed], facts: Mapping[str, Any]) -> list[Finding]:
    """Findings of the lists alone."""
    found = []
    for one in lists:
        if one.defects:
            text = f"{one.name}: {len(one.defects):,} wrong lines; {_some(one.defects)}"
            found.append(Finding("list", text, len(one.defects)))
        repeats = len(one.rows) - len(one.labels)
        if repeats:
            text = f"{one.name}: {repeats:,} of {len(one.rows):,} rows repeat an image"
            found.append(Finding("repeats", text, repeats, wrong=False))
    clashes = of_lists.contradictions(lists)
    if clashes:
        text = f"{len(clashes):,} images carry different labels in different lists; "
        found.append(Finding("labels", text + _some(clashes), len(clashes)))
    found += [
        Finding(
            "leak",
            f"{leak['shared']:,} of {leak['items']:,} images of {leak['list']} "
            f"({leak['role']}) are in the {leak['with']} lists",
            leak["shared"],
        )
        for leak in facts["leaks"]
    ]
    for family in facts["families"]:
        found += _of_family(family)
    for source in facts["calibration_sources"]:
        if source["parts"] > 1 and len(source["real_from"]) == 1:
            (name, count), *_ = source["real_from"].items()
            text = f"all {count:,} real images of {source['list']} come from {name} alone"
            if count == source["real"]:
                found.append(Finding("calibration", text, count))
    off = [text for one in lists for text in of_lists.off_balance(of_lists.balance(one))]
    if off:
        text = f"{len(off):,} shares are not the published ones; {_some(off)}"
        found.append(Finding("balance", text, len(off)))
    return found


def _of_family(family: Mapping[str, Any]) -> Iterable[Finding]:
    name, parts = family["whole"], len(family["parts"])
    repeats = family["real_rows"] - family["real_different"]
    if repeats:
        yield Finding(
            "repeats",
            f"the {parts} lists by generator of {name} have "
            f"{family['real_rows']:,} real rows, but only "
            f"{family['real_different']:,} different real images",
            repeats,
        )
    for origin in ("real", "synthetic"):
        unused = family[f"{origin}_never_used"]
        if unused:
            yield Finding(
                "unused",
                f"{unused:,} {origin} images of {name} are in none of its "
                f"{parts} lists by generator: never tested",
                unused,
            )


# --- of the images ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two files of one picture: paths, roles, how they are alike, bits apart."""

    one: str
    other: str
    roles: tuple[str, str]
    how: str
    distance: int


@dataclass(frozen=True)
class Copies:
    """Copies among the images: across roles, by bytes anywhere, alike but of another origin.

    `contradictions` are equal bytes that are labelled real and synthetic, a pair each.
    """

    across: Sequence[Pair]
    same_bytes: Sequence[Sequence[str]]
    contradictions: Sequence[Pair]
    other_origin: Sequence[Pair]
    num_alike: int


def find_copies(images: pa.Table, lists: Sequence[Listed]) -> Copies:
    """Copies and look-alikes; `images` are the decoded rows, with `group` by look and `pair`."""
    by_role: dict[str, set[str]] = {}
    for one in lists:
        by_role.setdefault(one.role, set()).update(one.labels)
    parts = {
        role: images.filter(pc.is_in(images["id"], value_set=pa.array(sorted(ids), pa.string())))
        for role, ids in by_role.items()
    }
    across = [
        Pair(row["path"], row["other"], (one, other), row["how"], row["distance"])
        for one, other in APART
        if one in parts and other in parts
        for row in near_duplicates.shared(parts[one], parts[other]).to_pylist()
        if row["how"] != "path"  # the lists say that already
    ]
    return Copies(across, *_same_bytes(images), *_alike(images))


def _same_bytes(images: pa.Table) -> tuple[list[list[str]], list[Pair]]:
    """The files of equal bytes, a group each; of a group under both labels a pair."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    columns = (images[name].to_pylist() for name in ("sha256", "path", "origin"))
    for value, path, origin in zip(*columns, strict=True):
        groups.setdefault(value, []).append((path, origin != 0))
    same, contradictions = [], []
    for group in groups.values():
        real = min((path for path, synthetic in group if not synthetic), default=None)
        made = min((path for path, synthetic in group if synthetic), default=None)
        if real and made:
            contradictions.append(Pair(real, made, ("real", "synthetic"), "sha256", 0))
        elif len(group) > 1:
            same.append(sorted(path for path, _ in group))
    same.sort(key=lambda paths: (-len(paths), paths))
    return same, sorted(contradictions, key=lambda pair: pair.one)


def _alike(images: pa.Table) -> tuple[list[Pair], int]:
    """Look-alikes of the other origin, one a group; and how many images look like another.

    Both of an intended pair are alike, and nothing is said of them.
    """
    names = ("group", "path", "origin", "perceptual_hash", "sha256", "pair")
    groups: dict[str, list[tuple[str, int, str | None, str, str]]] = {}
    for group, *rest in zip(*(images[name].to_pylist() for name in names), strict=True):
        groups.setdefault(group, []).append(tuple(rest))
    found, alike = [], 0
    for members in groups.values():
        pairs: dict[str, set[int]] = {}
        for _, origin, _, _, pair in members:
            pairs.setdefault(pair, set()).add(origin)
        alike += len(members) if len(pairs) > 1 else 0
        first, before, other, known, own = members[0]
        for path, origin, look, digest, pair in members[1:]:
            if len(pairs[own]) == len(pairs[pair]) == 2:  # each stands beside its own partner
                continue
            if origin != before and digest != known:  # equal bytes are a contradiction, not alike
                apart = near_duplicates.bits_apart(look, other)
                origins = ("synthetic", "real") if before else ("real", "synthetic")
                found.append(Pair(first, path, origins, "near", apart))
                break
    return found, alike


def of_the_images(seen: Inspected, copies: Copies) -> list[Finding]:
    """Findings of the image pass over lists."""
    found = _of_files(seen)
    for how, what in (("sha256", "the same bytes as"), ("near", "nearly the same picture as")):
        for roles in APART:
            pairs_of = [p for p in copies.across if p.how == how and p.roles == roles]
            if pairs_of:
                text = f"{len(pairs_of):,} {roles[0]} images are, under another name, {what} "
                text += f"{roles[1]} images; {_some([f'{p.one} = {p.other}' for p in pairs_of])}"
                found.append(Finding("copy", text, len(pairs_of)))
    if copies.contradictions:
        pairs = [f"{pair.one} = {pair.other}" for pair in copies.contradictions]
        found.append(_contradiction(len(pairs), pairs))
    if copies.same_bytes:
        extra = sum(len(group) - 1 for group in copies.same_bytes)
        text = (
            f"{extra:,} files repeat the bytes of another; {_some(map(_equal, copies.same_bytes))}"
        )
        found.append(Finding("copy", text, extra, wrong=False))
    if copies.other_origin:
        pairs_text = _some([f"{pair.one} ~ {pair.other}" for pair in copies.other_origin])
        text = f"{len(copies.other_origin):,} real images look like a synthetic one; {pairs_text}"
        found.append(Finding("alike", text, len(copies.other_origin), wrong=False))
    return [*found, *_of_the_declared(seen)]


def of_a_set(seen: Inspected, repeats: Repeats) -> list[Finding]:
    """Findings of a set of any size, of which no two images were compared but by their bytes."""
    found = _of_files(seen)
    if repeats.clashes:
        pairs = [f"{one} = {other}" for one, other in repeats.clashing]
        found.append(_contradiction(repeats.clashes, pairs))
    if repeats.files:
        text = f"{repeats.files:,} files repeat the bytes of another; "
        text += _some(repeats.lines(_SHOWN), repeats.groups)
        found.append(Finding("copy", text, repeats.files, wrong=False))
    return [*found, *_of_the_declared(seen)]


def _of_files(seen: Inspected) -> list[Finding]:
    """What can't be read."""
    return [
        Finding(
            kind,
            f"{rows.count:,} of {seen.rows:,} images are {kind}; {_some(rows.lines, rows.count)}",
            rows.count,
        )
        for kind, rows in (("missing", seen.missing), ("broken", seen.broken))
        if rows.count
    ]


def _contradiction(number: int, pairs: Sequence[str]) -> Finding:
    text = f"equal bytes are labelled real and synthetic ({number:,} "
    text += f"{'pair' if number == 1 else 'pairs'}): one label of each is wrong; "
    return Finding("contradiction", text + _some(pairs, number), number)


def _of_the_declared(seen: Inspected) -> Iterable[Finding]:
    """What files declare of their origin, by label: against it, and as a leak of it."""
    if against := seen.against.count:
        text = f"{against:,} images labelled real declare that AI made or edited them; "
        yield Finding("labels", text + _some(seen.against.lines, against), against)
    if taken := seen.camera.count:
        text = f"{taken:,} images labelled synthetic declare a camera; "
        yield Finding("labels", text + _some(seen.camera.lines, taken), taken, wrong=False)
    counts: dict[str, Counter[str]] = {REAL: Counter(), SYNTHETIC: Counter()}
    for (origin, kind), number in seen.declared.items():
        if origin in counts:
            counts[origin][kind] = number
    declaring = sum(count.total() - count[NOTHING] for count in counts.values())
    if declaring and all(counts.values()):
        each = [
            f"{count[kind]:,} of {count.total():,} {name} images {kind}"
            for name, count in counts.items()
            for kind in KINDS
            if count[kind]
        ]
        yield Finding("declared", f"what files declare: {'; '.join(each)}", declaring, wrong=False)


def of_the_shortcuts(shortcuts: Sequence[Shortcut]) -> list[Finding]:
    """The shortcuts that alarm."""
    found = []
    alarming = [one for one in shortcuts if one.alarms]
    outside = [one for one in alarming if one.feature not in OF_PIXELS]
    single = [one for one in outside if one.feature != TOGETHER]
    for one in [*(single or outside), *(one for one in alarming if one.feature in OF_PIXELS)]:
        what = "all the outside of files" if one.feature == TOGETHER else one.feature
        text = f"{what} alone tells origin with a ROC AUC of {one.auc.value:.3f}"
        of_pixels = one.feature in OF_PIXELS
        text += "; a detector may" if of_pixels else "; a detector will"
        text += " learn that instead"
        text += f" ({_some(one.telling)})" if one.telling else ""
        found.append(Finding("shortcut", text, 1, wrong=not of_pixels))
    return found


def _equal(group: Sequence[str]) -> str:
    return " = ".join(group[:_SHOWN]) + (" = …" if len(group) > _SHOWN else "")


def _some(texts: Iterable[str], count: int | None = None) -> str:
    """The first, and how many more there are; `count` where not all are given."""
    every = list(texts)
    more = (len(every) if count is None else count) - _SHOWN
    return "; ".join(every[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
