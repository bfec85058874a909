"""The sections of a report, from its evidence."""

import json
from collections.abc import Sequence
from typing import Any

from rayapp.dataset.reference_figures import load_published
from rayapp.dataset.suites import FOLDER
from rayapp.metrics.evaluation import Comparison, Evaluation, Figure, Results
from rayapp.metrics.regressions import Regressions
from rayapp.pages.blocks import (
    Block,
    Commands,
    Highlight,
    Highlights,
    KeyValues,
    Prose,
    Table,
    Value,
)
from rayapp.pages.page import Section
from rayapp.report import case_tables, pictures, tables
from rayapp.report.doubts import against_chance, against_others, to_expect
from rayapp.report.evidence import Evidence, by_suite, read_changes
from rayapp.report.left_out_tables import left_out_table
from rayapp.report.settings import ReportSettings
from rayapp.run import record as runs
from rayapp.run.fingerprint import versions
from rayapp.run.record import duration
from rayapp.storage.uris import read_uri

_MOST_HIGHLIGHTS = 12
_TITLE, _PUBLISHED = "Detector report", "Published figures of ImagiNet"


def _summary(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    regressions: Sequence[Regressions] = (),
) -> str:
    if regressions and not evaluations:
        return " ".join(f"{one.detector}: {one.counted}." for one in regressions)
    if not evaluations:
        return (
            "The figures that the ImagiNet paper and its repository publish, each with its source. "
            "Nothing was measured for this page."
        )
    first = evaluations[0]
    best, what = first.whole, "the whole test set"
    if seen := first.slice("training", "seen"):
        best, what = seen, "generators seen in training"
    elif first.mean:
        best, what = first.mean, f"average over {len(first.table) - 1} slices"
    if first.of_one_class:
        return _of_one_class(first)
    accuracy, auc = (best.figures[name] for name in first.headline)
    unseen = first.slice("training", "held-out")
    held = held_accuracy = ""
    if unseen:
        held = f" and {_format_auc(unseen.figures['roc_auc'])} on a held-out one"
        held_accuracy = f" and {_format(unseen.figures[first.headline[0]])} on a held-out one"
    words = tables.heading(first.headline[0])
    at = f" at the threshold {first.threshold:g}" if first.task == "origin" else ""
    return (
        f"On {first.test_set} {first.detector_name} reaches a ROC AUC of {_format_auc(auc)} on "
        f"{what}{held}; {words} is {_format(accuracy)}{held_accuracy}{at} ({first.protocol} "
        f"protocol). {against_others(first, best, comparisons)}"
    ).strip()


def _format_auc(auc: Figure) -> str:
    chance, text = against_chance(auc), _format(auc)
    return f"{text.removesuffix(')')}: {chance})" if chance else text


def _of_one_class(one: Evaluation) -> str:
    """What a set of reals alone, or of synthetics alone, can say."""
    whole, where = one.whole, f"at the threshold {one.threshold:g} ({one.protocol} protocol)"
    text = _format(whole.figures[one.headline[0]])
    if whole.num_real:
        return (
            f"On {one.test_set} {one.detector_name} has a false-positive rate of {text}: so many "
            f"of {whole.num_real:,} real images are called synthetic {where}. The set holds no "
            "synthetic image; how many of those are found is not measured."
        )
    return (
        f"On {one.test_set} {one.detector_name} has a recall of {text}: so many of "
        f"{whole.num_synthetic:,} synthetic images are called so {where}. The set holds no real "
        "image; how many of those are called synthetic is not measured."
    )


def _format(figure: Any) -> str:
    if figure.value is None:
        return f"no value ({figure.reason})"
    if figure.low is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} (95 % interval {figure.low:.3f} to {figure.high:.3f})"


def _published(settings: ReportSettings) -> list[Section]:
    known = load_published()
    text = (
        "`imaginet report --evaluations DIR` puts your own figures beside these. ACC is "
        "balanced accuracy at 0.5 after a calibration on images of the very test sets (in model "
        "identification: accuracy of the class); AUC does not depend on the calibration."
    )
    opening: list[Block] = [Prose(text), KeyValues({**known.detectors, **known.sources})]
    found = tables.published_only(known)
    return [Section("What this is", opening), *(Section(name, blocks) for name, blocks in found)]


def _sections(
    evidence: Sequence[Evidence], results: Sequence[Results], settings: ReportSettings
) -> list[Section]:
    cases = [one for result in results for one in result.regressions]
    known = [Section("Known cases", case_tables.known_cases(cases))] if cases else []
    if not evidence:
        return [*known, Section("What was run", _provenance(evidence, results, settings))]
    suites = by_suite(evidence)
    opening: list[Block] = [_highlights(evidence)]
    focus = next(iter(suites.values()))
    opening += pictures.figures(_focus_curves(evidence, focus))
    sections = [Section("Result", opening), *known]
    sections += [Section(_title(several), _suite(several)) for several in suites.values()]
    compared = _compared(results, settings, focus[0].evaluation.suite)
    if compared:
        sections.append(Section("Detectors compared", compared))
    if left_out := [one for result in results for one in result.left_out]:
        sections.append(Section("Never trained on", [left_out_table(left_out)]))
    spreads = [one for result in results for one in result.spreads]
    if spreads:
        sections.append(Section("Over seeds", [tables.over_seeds(spreads)]))
    sections += _across(suites)
    drawn = pictures.embeddings(settings.embeddings, evidence)
    if drawn:
        sections.append(Section("Features", pictures.figures(drawn)))
    scored = [one for one in focus if one.table]
    if scored:
        sections.append(
            Section("Scores", pictures.figures([pictures.histogram(one) for one in scored]))
        )
        sections.append(Section("Mistakes and doubts", pictures.mistakes(scored)))
    return [*sections, Section("What was run", _provenance(evidence, results, settings))]


def _compared(results: Sequence[Results], settings: ReportSettings, suite: str) -> list[Block]:
    """Pairs of detectors by figure, and the images on which they part; those of `suite` by name."""
    blocks: list[Block] = []
    if comparisons := [one for result in results for one in _named(result)]:
        blocks.append(tables.compared(comparisons))
    if changes := [one for result in results for one in result.changes]:
        blocks.append(tables.changes(changes))
    for uri, result in zip(settings.evaluations, results, strict=True):
        blocks += [
            tables.changed(one, read_changes(uri, one))
            for one in result.changes
            if one.suite == suite and one.first_right + one.second_right
        ]
    return blocks


def _named(result: Results) -> list[Comparison]:
    """The comparisons; of own images, which are all of one suite, by the name of the test set."""
    names = {one.suite: one.test_set for one in result.evaluations if one.suite == FOLDER}
    return [
        one.model_copy(update={"suite": names.get(one.suite, one.suite)})
        for one in result.comparisons
    ]


def _focus_curves(evidence: Sequence[Evidence], focus: Sequence[Evidence]) -> list[Any]:
    """Curves of the suite in focus; of one of origin where that is none."""
    if any(one.table for one in focus):
        return pictures.curves(focus)
    several = [e for e in by_suite(evidence).values() if any(one.table for one in e)]
    return pictures.curves(several[0]) if several else []


def _title(several: Sequence[Evidence]) -> str:
    e = several[0].evaluation
    name = f"{e.test_set}: which generator" if e.axis and e.task == "identification" else e.test_set
    return f"{name} ({e.protocol})" if e.protocol == "legacy" else name


def _suite(several: Sequence[Evidence]) -> list[Block]:
    first = several[0].evaluation
    blocks = tables.beside_published(several)
    if first.axis:
        return [*blocks, *pictures.figures(pictures.robustness(several))]
    if first.task == "origin":
        expected = [to_expect(one.evaluation) for one in several]
        blocks = [Prose("\n\n".join(expected)), *blocks]
    drawn = pictures.by_slice(several)
    drawn += [pictures.confusion(one.evaluation) for one in several if one.evaluation.confusion]
    resampled = f"{first.num_groups:,} resampled {first.resampled}"
    blocks.append(
        Prose(
            f"Intervals (95 %) come from {resampled}. A slice by generator holds that generator's "
            "images and the reals that the protocol gives it."
        )
    )
    blocks += tables.operating_points(several)
    return [*blocks, *pictures.figures(drawn), tables.every_figure(several)]


def _across(suites: dict[str, list[Evidence]]) -> list[Section]:
    """Cross-source tables, once a detector: suites on the same images have the same sources."""
    found: list[Block] = []
    seen: set[Any] = set()
    for several in suites.values():
        for one in several:
            pair = tables.across_sources(one.evaluation)
            if not pair:
                continue
            key = (one.evaluation.detector_name, tuple(pair[0].columns), len(pair[0].rows))
            if key not in seen:
                seen.add(key)
                found += pair
    return [Section("Across sources", found)] if found else []


def _highlights(evidence: Sequence[Evidence]) -> Highlights:
    items: list[Highlight] = []
    first = evidence[0].evaluation
    for one in evidence:
        e = one.evaluation
        if e.axis or (e.suite != first.suite and e.detector_name != first.detector_name):
            continue
        chosen = [e.slice("training", name) for name in ("seen", "held-out")]
        for part in [p for p in chosen if p] or [e.mean or e.whole]:
            name = part.name.lower() if part.name != "all" else "all"
            detector = f"{e.detector_name}, " if len(evidence) > 1 else ""
            counts = f"{part.num_real:,} real, {part.num_synthetic:,} synthetic"
            for figure in e.headline[::-1]:  # a ROC AUC first, where there is one
                title = tables.heading(figure)
                label = f"{title[0].upper()}{title[1:]}, {name}, {detector}{e.test_set}"
                chance = against_chance(part.figures[figure]) if figure == "roc_auc" else ""
                remark = "; ".join(filter(None, [counts, chance]))
                items.append(Highlight(label, part.figures[figure].measure(), remark))
    return Highlights(items[:_MOST_HIGHLIGHTS])


def _provenance(
    evidence: Sequence[Evidence], results: Sequence[Results], settings: ReportSettings
) -> list[Block]:
    rows: list[list[Value]] = []
    for one in evidence:
        e = one.evaluation
        band = "–" if e.band is None else f"{e.band[0]:.3f} to {e.band[1]:.3f}"
        rows.append(
            [
                e.detector_name,
                e.test_set,
                e.protocol,
                e.view,
                e.detector_hash[:16],
                (e.calibration_hash or "none")[:16],
                f"{e.threshold:g}",
                band,
                f"{e.num_groups:,} {e.resampled}",
            ]
        )
    columns = [
        "detector",
        "test set",
        "protocol",
        "view",
        "hash",
        "calibration",
        "threshold",
        "unsure between",
        "resampled",
    ]
    facts: dict[str, Any] = {
        "protocol": ", ".join(dict.fromkeys(one.protocol for one in results)),
        "bootstrap": ", ".join(
            dict.fromkeys(f"{one.resamples:,} resamples, seed {one.seed}" for one in results)
        ),
        **{f"version of {name}": version for name, version in versions().items()},
    }
    blocks: list[Block] = [KeyValues(facts)]
    blocks += [Table(columns, rows, "What each figure rests on.")] if rows else []
    if settings.runs:
        blocks.append(_ran(settings.runs))
    commands = [one.command for one in results if one.command]
    if commands:
        blocks.append(Commands("\n".join(commands), "To repeat it:"))
    return blocks


def _ran(uris: Sequence[str]) -> Table:
    rows: list[list[Value]] = []
    for uri in uris:
        record = json.loads(read_uri(f"{uri.rstrip('/')}/{runs.RUN_FILE}"))
        counts = ", ".join(f"{name} {value}" for name, value in record["counts"].items())
        rows.append([record["job"], duration(record["seconds"]), counts, record["finished"]])
    return Table(["job", "took", "counts", "finished (UTC)"], rows)
