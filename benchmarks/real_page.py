"""The page and the printed lines of benchmarks/real.py: every figure beside its conditions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_features import BACKBONE, Condition
from benchmarks.real_judge import Floats, Mask, Pairs, mean_of, measure
from benchmarks.real_set import RealSet
from rayapp.metrics.measure import Measure
from rayapp.pages.blocks import (
    Block,
    Commands,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Prose,
    Table,
    Value,
)
from rayapp.pages.page import Page, Section

LEAVE_FAMILY_OUT, LEAVE_SOURCE_OUT = "leave_family_out", "leave_real_source_out"
HALF, ALIGNED = "half_of_generators", "aligned"
TITLES = {
    LEAVE_FAMILY_OUT: "A family of generators never trained on",
    LEAVE_SOURCE_OUT: "A source of real images never trained on",
    HALF: "Trained on half of the generators, judged on the other half",
    ALIGNED: "Trained on photographs and their reconstructions alone",
}
_MOST_NAMED = 5  # files that were left out
_BY_SOURCE = {LEAVE_SOURCE_OUT, ALIGNED}  # whose figure is the mean over sources of real images
_TOLD = (
    "A pair of a synthetic and a real image is compared by a model that was trained on neither, "
    "nor on the family, the source or the group that is left out; ROC AUC is the share of pairs in "
    "the right order. Balanced accuracy is at a threshold that was chosen on inner folds of the "
    "training images, which leave out whole sources and families; trained on photographs alone, it "
    "is where one in ten real images of the other sources is called synthetic. Intervals (95 %) "
    "resample groups: images of one prompt, one photograph or one scene go together. The second "
    "interval resamples whole sources and families, as a new generator would be another draw of "
    "those."
)


@dataclass(frozen=True)
class Result:
    """What one detector, or one way of training the probe, does under one condition."""

    way: str
    condition: Condition
    pairs: Pairs


@dataclass(frozen=True)
class Views:
    """Figures of one result: of all pairs, and of those of a source or a family."""

    pictures: RealSet
    pairs: Pairs

    def _names(self, origin: int, of: str) -> NDArray[np.str_]:
        names = self.pictures.kinds_N if of == "kinds" else self.pictures.groups_N
        return np.asarray(names[self.pictures.origins_N == origin])

    def mask(self, origin: int, kind: str | None = None) -> Mask:
        """The images of a class, or of one of its kinds, within the class."""
        names = self._names(origin, "kinds")
        return np.ones(len(names), bool) if kind is None else names == f"{'rs'[origin]}:{kind}"

    def of_kind(self, figure: str, origin: int, kind: str) -> Measure:
        """One figure of the pairs of a family (origin 1) or a source (0); groups are resampled."""
        synthetic, real = self._masks(origin, kind)
        values: Floats = getattr(self.pairs.only(synthetic, real), figure)
        return measure(values, self._names(1, "groups")[synthetic], self._names(0, "groups")[real])

    def _masks(self, origin: int, kind: str) -> tuple[Mask, Mask]:
        return self.mask(1, kind if origin else None), self.mask(0, None if origin else kind)

    def headline(self, way: str, figure: str, of: str = "groups") -> Measure:
        """The figure of a way: over all pairs; the mean over sources where those are left out."""
        values: Floats = getattr(self.pairs, figure)
        return measure(values, self._names(1, of), self._names(0, of), self._shares(way))

    def value(self, way: str, figure: str) -> float | None:
        """The same without its interval."""
        return mean_of(getattr(self.pairs, figure), self._shares(way))

    def _shares(self, way: str) -> Floats | None:
        """What each real image weighs: a source as much as another, where those are left out."""
        if way not in _BY_SOURCE:
            return None
        names = self._names(0, "kinds")
        _, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
        return np.asarray(1 / counts[codes])

    def worst(self, way: str) -> tuple[str, float] | None:
        """The family or the source with the lowest AUC, as far as it was judged."""
        origin = 0 if way in _BY_SOURCE else 1
        found = []
        for kind in self.pictures.kinds(origin):
            value = mean_of(self.pairs.only(*self._masks(origin, kind)).higher_SR)
            if value is not None:
                found.append((value, kind))
        return (min(found)[1], min(found)[0]) if found else None


def _title(way: str) -> str:
    return TITLES.get(way, way)


def _conditions(pictures: RealSet, results: Sequence[Result]) -> Table:
    """With and without equalising, clean, web and hard, in one table."""
    rows: list[list[Value]] = []
    for one in results:
        views = Views(pictures, one.pairs)
        worst = views.worst(one.way)
        rows.append(
            [
                "equalised" if one.condition.equalised else "as the files are",
                one.condition.level,
                views.headline(one.way, "higher_SR"),
                views.headline(one.way, "higher_SR", "kinds"),
                views.headline(one.way, "right_SR"),
                worst[1] if worst else None,
                worst[0] if worst else "–",
            ]
        )
    columns = [
        "format and size",
        "level",
        "ROC AUC",
        "over sources and families",
        "balanced accuracy",
        "worst ROC AUC",
        "of",
    ]
    return Table(columns, rows)


def _by_kind(pictures: RealSet, results: Sequence[Result], origin: int) -> Table | None:
    """A row a family, or a source of real images: clean, with and without equalising."""
    chosen = [one for one in results if one.condition.level == "clean"]
    what = ("source", "family")[origin]
    rows: list[list[Value]] = []
    for kind in pictures.kinds(origin):
        row: list[Value] = [
            kind,
            sum((p.origin, p.kind) == (origin, kind) for p in pictures.pictures),
        ]
        for one in chosen:
            views = Views(pictures, one.pairs)
            row += [views.of_kind(f, origin, kind) for f in ("higher_SR", "right_SR")]
        rows.append(row)
    columns = [what, "images"]
    for one in chosen:
        short = "equalised" if one.condition.equalised else "as the files are"
        columns += [f"ROC AUC, {short}", f"balanced accuracy, {short}"]
    return Table(columns, rows)


def _section(pictures: RealSet, way: str, results: Sequence[Result]) -> Section:
    mine = [one for one in results if one.way == way]
    blocks: list[Block] = [_conditions(pictures, mine)]
    blocks += [t for origin in (1, 0) if (t := _by_kind(pictures, mine, origin))]
    return Section(_title(way), blocks)


def _facts(pictures: RealSet) -> dict[str, Value]:
    """What is judged, by what, and what had to be left out."""
    named = [", ".join(pictures.kinds(origin)) for origin in (0, 1)]
    facts: dict[str, Value] = {
        "sources of real images": named[0],
        "families of generators": named[1],
        "groups": len(set(pictures.groups_N)),
        "features of the probe": f"{BACKBONE}, frozen: the class token after each block, of the "
        "whole image at 224 px and of its central 224 px; trained on photographs alone, the token "
        "of one block, of the whole image",
    }
    if left := pictures.left_out:
        more = f"; and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        facts["left out"] = "; ".join(left[:_MOST_NAMED]) + more
    return facts


def page(pictures: RealSet, results: Sequence[Result], command: str) -> Page:
    """The whole page; its first sentence says of which images it speaks."""
    ways = list(dict.fromkeys(one.way for one in results))
    highlights = []
    for way in ways:
        first = next(one for one in results if one.way == way)
        value = Views(pictures, first.pairs).headline(way, "higher_SR")
        highlights.append(Highlight(_title(way), value, f"ROC AUC, {first.condition.title}"))
    num_real, num_synthetic = (sum(p.origin == o for p in pictures.pictures) for o in (0, 1))
    summary = (
        f"Figures of {num_real} real images of {len(pictures.kinds(0))} sources and {num_synthetic}"
        f" generated ones of {len(pictures.kinds(1))} families; on other images they are others."
    )
    opening: list[Block] = [
        Highlights(highlights),
        Notice(
            "The classes differ in content as well: where generated images are illustrations and "
            "real ones photographs, a detector may tell those apart. Equalising takes away format, "
            "size and compression, not content, and not that small images are enlarged.",
            "warning",
        ),
        Prose(_TOLD),
        KeyValues(_facts(pictures)),
    ]
    sections = [Section("Result", opening)]
    sections += [_section(pictures, way, results) for way in ways]
    sections.append(Section("To repeat it", [Commands(command)]))
    return Page("Real photographs, real generators", summary, sections)


def lines(pictures: RealSet, results: Sequence[Result]) -> Iterator[str]:
    """A line a way and condition, for the terminal."""
    yield f"{'':44}{'format and size':18}{'level':7}{'ROC AUC':>9}{'bal. acc.':>11}{'worst':>8}"
    for one in results:
        views = Views(pictures, one.pairs)
        auc = views.value(one.way, "higher_SR")
        accuracy = views.value(one.way, "right_SR")
        worst = views.worst(one.way)
        named = "equalised" if one.condition.equalised else "as the files are"
        told = f"{worst[1]:8.3f} ({worst[0]})" if worst else ""
        yield (
            f"{one.way[-43:]:44}{named:18}{one.condition.level:7}{auc or 0:9.3f}"
            f"{accuracy or 0:11.3f}{told}"
        )
