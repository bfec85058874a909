"""The tables of a report: figures beside published ones, detectors beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rayapp.metrics.binary import TITLES
from rayapp.metrics.evaluation import difference
from rayapp.metrics.measure import Measure
from rayapp.models.calibration.decisions import percent
from rayapp.pages.blocks import Notice, Prose, Table

if TYPE_CHECKING:
    from rayapp.dataset.reference_figures import Published, PublishedSuite
    from rayapp.metrics.changes import Changes
    from rayapp.metrics.evaluation import Comparison, Evaluation, Figure, SeedSpread, Slice
    from rayapp.models.calibration.decisions import OperatingPoint
    from rayapp.pages.blocks import Block, Value
    from rayapp.report.evidence import Evidence

NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy_real": "accuracy, reals",
    "accuracy_synthetic": "accuracy, synthetics (recall)",
    "false_positive_rate": "false-positive rate",
    "roc_auc": "ROC AUC",
    "recall": "accuracy of the class",
    "accuracy": "accuracy",
}
_NOT_MEASURED = Measure(None, reason="not measured")
_MOST_CHANGED = 12
_ACROSS = {
    "roc_auc": "One pooled AUC hides a shift of scores between sources.",
    "balanced_accuracy": "At the detector's one threshold, where such a shift shows.",
}


def heading(figure: str) -> str:
    """A figure's name as a column's heading."""
    return NAMES.get(figure) or TITLES[figure]


def beside_published(several: Sequence[Evidence]) -> list[Block]:
    """One suite: the headline figures of every slice and detector beside the published ones."""
    names = several[0].evaluation.headline
    known = any(part.published for one in several for part in one.evaluation.table)
    columns = ["slice", "detector", "real", "synthetic"]
    formats: dict[str, str] = {}
    for name, short in zip(names, ("ACC", "AUC"), strict=False):
        found = {heading(name): ".4f"}
        if known:
            found |= {
                f"{short} published": ".4f",
                f"{short} difference": "+.4f",
                f"{short} within": "",
            }
        columns += found
        formats |= found
    rows: list[list[Value]] = []
    for wanted in dict.fromkeys(p.name for one in several for p in rows_of(one.evaluation)):
        for one in several:
            parts = [part for part in rows_of(one.evaluation) if part.name == wanted]
            rows += [_row(one.evaluation, part, names, known) for part in parts]
    text = (
        "Published: as printed by others under their own protocol; within: whether that lies in "
        "our 95 % interval."
        if known
        else "Figures with their 95 % intervals."
    )
    return [*remarks(several), Table(columns, rows, text, formats)]


def rows_of(one: Evaluation) -> list[Slice]:
    """The rows of an evaluation's table; the whole set where it has no slices."""
    has_slices = len(one.table) > (1 if one.mean else 0)
    return one.table if has_slices and not one.of_one_class else one.slices


def _row(one: Evaluation, part: Slice, names: Sequence[str], known: bool) -> list[Value]:
    row: list[Value] = [part.name, one.detector_name, part.num_real, part.num_synthetic]
    for name in names:
        row.append(part.figures[name].measure())
        if known:
            found = difference(part, name)
            within = None if found is None else found[1]
            row += [
                part.published.get(name),
                None if found is None else found[0],
                "–" if within is None else "yes" if within else "no",
            ]
    return row


def remarks(several: Sequence[Evidence]) -> list[Block]:
    """What the protocol did, detector by detector; said once where it is the same."""
    speakers: dict[str, list[str]] = {}
    for one in several:
        e = one.evaluation
        notes = [note for note in e.notes if note not in e.not_a_test]
        words = ". ".join([f"Calibration: {e.calibration}", *notes])
        speakers.setdefault(f"{e.view}. {words}.", []).append(e.detector_name)
    legacy = several[0].evaluation.protocol == "legacy"
    lines = "\n\n".join(f"{', '.join(names)}: sees {words}" for words, names in speakers.items())
    blocks: list[Block] = []
    if legacy:
        blocks.append(
            Notice(
                "Legacy protocol: as published, calibration images and repeated reals included. "
                "For comparison with published figures only.",
                "warning",
            )
        )
    for one in several:
        e = one.evaluation
        blocks += [Notice(f"{e.detector_name}: {note}.", "warning") for note in e.not_a_test]
        if e.inverted:
            where = "" if e.inverted[0] == e.whole.name else f" on {', '.join(e.inverted)}"
            blocks.append(
                Notice(
                    f"{e.detector_name}: the scores run against the labels{where} (ROC AUC below "
                    "0.5 by more than chance). Check the labels, and that a higher score means "
                    "synthetic.",
                    "warning",
                )
            )
    return [*blocks, Prose(lines)]


def operating_points(several: Sequence[Evidence]) -> list[Block]:
    """What was asked of each threshold, what calibration saw, what these images show; the prior."""
    rows: list[list[Value]] = []
    sure, priors = [], []
    for one in several:
        e = one.evaluation
        if e.operating_point is not None and e.operating_point.fpr is not None:
            rows += _promised(e, e.operating_point)
            sure.append(percent(e.operating_point.confidence))
        if e.holds_at is not None:
            text = f"where {percent(e.holds_at)} of the images are synthetic"
            if e.precision is not None:
                text += (
                    f"; there, at the rates of these images, {percent(e.precision)} of what "
                    "it calls synthetic is"
                )
            priors.append(f"{e.detector_name}: its probabilities hold {text}.")
    blocks: list[Block] = []
    if rows:
        columns = [
            "detector",
            "slice",
            "asked",
            "bound",
            "observed",
            "reals",
            "here",
            "reals here",
            "holds here",
        ]
        text = (
            "False positives: reals called synthetic. Asked (at most, with a confidence of "
            f"{', '.join(dict.fromkeys(sure))}), bound and observed are of the calibration images; "
            "here: of these, with the 95 % interval. No: they exceed the asked rate by more than "
            "chance, so they are not like the calibration images."
        )
        formats = dict.fromkeys(("asked", "bound", "observed", "here"), ".2%")
        blocks.append(Table(columns, rows, text, formats))
    return [*blocks, Prose("\n\n".join(priors))] if priors else blocks


def _promised(e: Evaluation, point: OperatingPoint) -> list[list[Value]]:
    here = {rate.slice: rate for rate in e.false_positives}
    before = {rate.slice: rate for rate in point.rates}
    rows: list[list[Value]] = []
    for name in dict.fromkeys([*before, *here]):
        then, now = before.get(name), here.get(name)
        seen = [then.bound, then.observed, then.num_real] if then else [None] * 3
        shown: list[Value] = [None, None, "–"]
        if now and point.fpr is not None:
            measure = Measure(now.observed, now.low, now.high)
            shown = [measure, now.num_real, "no" if now.low > point.fpr else "yes"]
        label = f"{point.by}: {name}" if point.by else name
        rows.append([e.detector_name, label, point.fpr, *seen, *shown])
    return rows


def every_figure(several: Sequence[Evidence]) -> Table:
    """Every figure of every slice and detector."""
    measured = {name for one in several for part in one.evaluation.slices for name in part.figures}
    chosen = [name for name in (*TITLES, "recall", "accuracy") if name in measured]
    rows: list[list[Value]] = []
    for one in several:
        e = one.evaluation
        for part in [*e.slices, *([e.mean] if e.mean else [])]:
            figures = [
                part.figures[n].measure() if n in part.figures else _NOT_MEASURED for n in chosen
            ]
            plain = part.column in {"", "list"}
            label = part.name if plain else f"{part.column}: {part.name}"
            rows.append([label, e.detector_name, part.num_real, part.num_synthetic, *figures])
        rows += _worst(e, chosen)
    columns = ["slice", "detector", "real", "synthetic", *map(heading, chosen)]
    return Table(columns, rows, "Every figure, with 95 % intervals; worst: over the table's rows.")


def _worst(one: Evaluation, chosen: Sequence[str]) -> list[list[Value]]:
    if not one.worst:
        return []
    figures: list[Value] = [
        one.worst[name].figure.measure() if name in one.worst else _NOT_MEASURED for name in chosen
    ]
    named = ", ".join(dict.fromkeys(w.name for n, w in one.worst.items() if n == "roc_auc"))
    return [
        [f"worst{f' (AUC: {named})' if named else ''}", one.detector_name, None, None, *figures]
    ]


def compared(comparisons: Sequence[Comparison]) -> Table:
    """Pairs of detectors on the same images."""
    rows: list[list[Value]] = [
        [
            one.suite,
            one.slice,
            heading(one.figure),
            one.first,
            one.second,
            one.difference.measure(),
            _distinct(one.difference),
            one.p_value,
            one.method,
        ]
        for one in comparisons
    ]
    columns = ["suite", "slice", "figure", "A", "B", "A − B", "told apart", "p", "test"]
    text = (
        "Paired by image; told apart: whether the interval leaves out 0. p is two-sided and not "
        f"adjusted for their number: of {len(rows)} tests without any difference about "
        f"{len(rows) / 20:.0f} fall below 0.05."
    )
    return Table(columns, rows, text, {"A − B": "+.4f", "p": ".2g"})


def _distinct(difference: Figure) -> str:
    if difference.low is None or difference.high is None:
        return "–"
    return "no" if difference.low <= 0 <= difference.high else "yes"


def over_seeds(spreads: Sequence[SeedSpread]) -> Table:
    """Figures over runs that differ in their seed."""
    rows: list[list[Value]] = [
        [s.suite, s.slice, heading(s.figure), s.num_runs, s.mean, s.std, s.minimum, s.maximum]
        for s in spreads
    ]
    columns = [
        "suite",
        "slice",
        "figure",
        "runs",
        "mean",
        "standard deviation",
        "lowest",
        "highest",
    ]
    formats = dict.fromkeys(columns[4:], ".4f")
    return Table(columns, rows, "Runs of one recipe that differ in their seed.", formats)


def changes(several: Sequence[Changes]) -> Table:
    """How many images each two detectors call differently."""
    rows: list[list[Value]] = [
        [
            one.suite,
            one.first,
            one.second,
            one.num_images,
            one.first_right + one.second_right,
            one.first_right,
            one.second_right,
            one.file,
        ]
        for one in several
    ]
    columns = [
        "suite",
        "A",
        "B",
        "images",
        "change sides",
        "only A right",
        "only B right",
        "listed in",
    ]
    return Table(columns, rows, "Images that change sides between two detectors.")


def changed(one: Changes, table: Sequence[Mapping[str, str]]) -> Table:
    """The first of the images that two detectors call differently; `table` is the list of them."""
    names = [f"P by {name}" for name in (one.first, one.second)]
    rows: list[list[Value]] = []
    for row in table[:_MOST_CHANGED]:
        made = "real" if row["origin"] == "real" else row.get("generator") or row["origin"]
        rows.append([row["path"], made, *(float(row[name]) for name in names), row["right"]])
    text = f"{one.first} and {one.second}: those whose probability moves most."
    return Table(["image", "made by", *names, "right"], rows, text)


def across_sources(one: Evaluation) -> list[Table]:
    """Each source of reals against each source of synthetics: ROC AUC and balanced accuracy."""
    reals = list(dict.fromkeys(pair.real for pair in one.sources))
    synthetics = list(dict.fromkeys(pair.synthetic for pair in one.sources))
    if len(reals) < 2:  # the slices say the same
        return []
    tables = []
    for figure, why in _ACROSS.items():
        found = {(p.real, p.synthetic): getattr(p, figure).measure() for p in one.sources}
        rows: list[list[Value]] = [
            [real, *(found.get((real, name), _NOT_MEASURED) for name in synthetics)]
            for real in reals
        ]
        text = (
            f"{one.detector_name}: {heading(figure)} of each source of reals (rows) against "
            f"each source of synthetics. {why}"
        )
        tables.append(Table(["reals from", *synthetics], rows, text))
    return tables


def published_only(published: Published) -> list[tuple[str, list[Block]]]:
    """Every published table as it stands, with its source."""
    found: list[tuple[str, list[Block]]] = []
    for name, suite in published.suites.items():
        notes = [f"Source: {suite.source}.", *(f"Remark: {text}." for text in suite.remarks)]
        found.append((name, [Prose(" ".join(notes)), _as_published(name, suite, published)]))
    time = published.inference_time
    timed: list[list[Value]] = [[name, value] for name, value in time.milliseconds.items()]
    table = Table(["detector", "ms"], timed, f"Inference time: {time.about}.", {"ms": ".2f"})
    return [*found, ("Inference time", [Prose(f"Source: {time.source}."), table])]


def _as_published(name: str, suite: PublishedSuite, published: Published) -> Table:
    of = {d: suite.figures[d] for d in published.detectors if d in suite.figures}
    slices = dict.fromkeys(s for figures in of.values() for s in figures)
    columns = ["slice"]
    for detector in of:
        columns += [f"{detector} ACC", f"{detector} AUC"]
    rows: list[list[Value]] = [
        [s, *(value for figures in of.values() for value in figures.get(s, (None, None)))]
        for s in slices
    ]
    return Table(columns, rows, f"{name}, as published.", dict.fromkeys(columns[1:], ".4f"))
