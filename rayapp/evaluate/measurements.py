"""What is measured of one detector on one suite: independent pieces of work, and their assembly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rayapp.dataset.reference_figures import MEAN
from rayapp.metrics.bootstrap import compare_figures
from rayapp.metrics.compare import compare_auc, compare_balanced_accuracy
from rayapp.metrics.evaluation import (
    HEADLINES,
    Comparison,
    Evaluation,
    Figure,
    Slice,
    SourcePair,
    measure_mean,
    measure_slice,
    runs_against,
    worst_slices,
)
from rayapp.metrics.identification import identify_with_intervals
from rayapp.metrics.slices import cross_source_auc
from rayapp.run.record import digest
from rayapp.transforms.draws import generator

if TYPE_CHECKING:
    from rayapp.dataset.reference_figures import Pair
    from rayapp.evaluate.judge import Judged
    from rayapp.metrics.identification import Identification
    from rayapp.metrics.testset import Part, TestSet

COMPARED = ("balanced_accuracy", "tpr_at_fpr_5pct", "nll")
_MOST_SOURCES = 24


@dataclass(frozen=True)
class Task:
    """A call that needs nothing but its arguments; `shared` ones are large and stay in place."""

    call: Callable[..., Any]
    shared: tuple[Any, ...] = ()
    arguments: tuple[Any, ...] = ()


@dataclass
class Measurements:
    """The pieces of one evaluation, and the fields that need no measuring."""

    fields: dict[str, Any]
    tasks: dict[str, Task]
    assemble: Callable[[Mapping[str, Any]], dict[str, Any]]
    fingerprint: str  # of the scores that are measured
    parts: list[Part] = field(default_factory=list)
    judged: Judged | None = None

    def evaluation(self, found: Mapping[str, Any], published: Mapping[str, Pair]) -> Evaluation:
        """The evaluation, with the published figures beside its own."""
        evaluation = Evaluation(**self.fields, **self.assemble(found))
        names = HEADLINES[evaluation.task]

        def beside(part: Slice) -> Slice:
            pair = published.get(part.name, (None, None)) if part in evaluation.table else ()
            values = {k: v for k, v in zip(names, pair, strict=False) if v is not None}
            return part.model_copy(update={"published": values})

        mean = beside(evaluation.mean) if evaluation.mean else None
        slices = [beside(part) for part in evaluation.slices]
        return evaluation.model_copy(update={"slices": slices, "mean": mean})


def origin_measurements(
    fields: dict[str, Any],
    judged: Judged,
    parts: list[Part],
    in_table: Sequence[Part],
    list_names: Mapping[str, str],
    seed: int,
    resamples: int,
) -> Measurements:
    """Every slice, their mean, and the AUC across sources of a detector of real or synthetic."""
    test = judged.test
    tasks = {
        f"slice {at}": Task(measure_slice, (test,), (*part, seed, resamples))
        for at, part in enumerate(parts)
    }
    if len(in_table) > 1:
        tasks["mean"] = Task(measure_mean, (test,), (list(in_table), seed, resamples))
    tasks["sources"] = Task(measure_sources, (test, *sources_of(judged, list_names)))

    def assemble(found: Mapping[str, Any]) -> dict[str, Any]:
        slices = [found[f"slice {at}"] for at in range(len(parts))]
        rows = [one for one, part in zip(slices, parts, strict=True) if part in in_table]
        return {
            "slices": slices,
            "mean": found.get("mean"),
            "worst": worst_slices(rows),
            "sources": found["sources"],
            "inverted": tuple(
                part[1]
                for one, part in zip(slices, parts, strict=True)
                if runs_against(test, part[2], one.figures["roc_auc"])
            ),
        }

    fingerprint = digest(test.logits_N.tobytes(), test.probabilities_N.tobytes())
    return Measurements(fields, tasks, assemble, fingerprint, parts, judged)


def sweep_measurements(
    fields: dict[str, Any], levels: Mapping[str, tuple[float, TestSet]], seed: int, resamples: int
) -> Measurements:
    """Each strength of a perturbation as a slice."""
    axis = fields["axis"]
    tasks = {
        name: Task(measure_slice, (test,), (axis, name, _all(test), seed, resamples))
        for name, (_, test) in levels.items()
    }

    def assemble(found: Mapping[str, Any]) -> dict[str, Any]:
        slices = [
            found[name].model_copy(update={"level": level}) for name, (level, _) in levels.items()
        ]
        inverted = tuple(
            one.name
            for one, (_, test) in zip(slices, levels.values(), strict=True)
            if runs_against(test, _all(test), one.figures["roc_auc"])
        )
        return {"slices": slices, "worst": worst_slices(slices), "inverted": inverted}

    fingerprint = digest(*(test.probabilities_N.tobytes() for _, test in levels.values()))
    return Measurements(fields, tasks, assemble, fingerprint)


def _all(test: TestSet) -> Any:
    return np.ones(len(test.logits_N), dtype=bool)


Classified = tuple[Any, Any, Any]  # classes [N], probabilities [N, K], groups [N]


def identification_measurements(
    fields: dict[str, Any], levels: Mapping[str, tuple[float, Classified]], seed: int, num: int
) -> Measurements:
    """Accuracy, AUC and confusion over classes; of a sweep the means at each strength."""
    tasks = {
        name: Task(_identified, given, (seed, name, num)) for name, (_, given) in levels.items()
    }
    classes: tuple[str, ...] = fields["classes"]

    def assemble(found: Mapping[str, Identification]) -> dict[str, Any]:
        if fields["axis"]:
            return {
                "slices": [
                    _level(found[name], fields["axis"], name, level)
                    for name, (level, _) in levels.items()
                ]
            }
        (one,) = found.values()
        rows = [
            Slice(
                column=fields["column"],
                name=name,
                num_real=0,
                num_synthetic=int(one.confusion_KK[k].sum()),
                figures={"recall": Figure.of(one.recalls[k]), "roc_auc": Figure.of(one.aucs[k])},
            )
            for k, name in enumerate(fields["names"])
        ]
        whole = _level(one, "", "all", None)
        mean = whole.model_copy(update={"name": MEAN})
        worst = worst_slices(rows)
        confusion = one.confusion_KK.tolist()
        return {"slices": [whole, *rows], "mean": mean, "worst": worst, "confusion": confusion}

    kept = {k: v for k, v in fields.items() if k not in {"column", "names"}}
    fingerprint = digest(*(given[1].tobytes() for _, given in levels.values()))
    return Measurements(kept | {"classes": classes}, tasks, assemble, fingerprint)


def _identified(
    classes_N: Any, probabilities_NK: Any, groups_N: Any, seed: int, name: str, num: int
) -> Identification:
    draws = generator(seed, "bootstrap", f"identification/{name}")
    return identify_with_intervals(classes_N, probabilities_NK, draws, groups_N, num)


def _level(one: Identification, column: str, name: str, level: float | None) -> Slice:
    return Slice(
        column=column,
        name=name,
        level=level,
        num_real=0,
        num_synthetic=one.num_items,
        figures={
            "recall": Figure.of(one.balanced_accuracy),
            "roc_auc": Figure.of(one.macro_auc),
            "accuracy": Figure.of(one.accuracy),
        },
    )


def sources_of(judged: Judged, names: Mapping[str, str]) -> tuple[Any]:
    """Where each image comes from, as far as it is known: [N] names.

    Reals: the manifest's source, else the first folder of the photograph's own path, else their
    content; synthetics: their generator, or what `names` says of their list.
    """
    codes, scheme = judged.test.codes, judged.items.scheme
    real = codes["origin"] == 0
    named: list[str] = []
    stored = judged.rows["source"].to_pylist() if "source" in judged.rows.column_names else []
    paths = judged.rows["path"].to_pylist()
    for at, photograph in enumerate(judged.items.photographs_N):
        if not real[at]:
            column = next((c for c in ("model", "generator") if c in codes), None)
            name = scheme.names(column)[int(codes[column][at])] if column else None
            named.append(name or names.get(judged.items.lists_N[at], "synthetic"))
        elif stored and stored[at]:
            named.append(stored[at])
        elif photograph != paths[at] and "/" in photograph:
            named.append(photograph.split("/", 1)[0])
        elif "content" in codes:
            named.append(scheme.names("content")[int(codes["content"][at])])
        else:
            named.append("real")
    return (np.asarray(named, dtype=np.str_),)


def measure_sources(test: TestSet, sources_N: Any) -> list[SourcePair]:
    """Each source of reals against each source of synthetics."""
    labels = test.codes["origin"]
    right_N = (test.probabilities_N >= test.threshold) == (labels == 1)
    if max(len(np.unique(sources_N[labels == k])) for k in (0, 1)) > _MOST_SOURCES:
        return []
    pairs = cross_source_auc(labels, test.logits_N, sources_N)
    return [
        SourcePair(
            real=real,
            synthetic=synthetic,
            roc_auc=Figure.of(measure),
            balanced_accuracy=Figure(
                value=(
                    float(
                        right_N[(labels == 0) & (sources_N == real)].mean()
                        + right_N[(labels == 1) & (sources_N == synthetic)].mean()
                    )
                    / 2
                )
            ),
        )
        for (real, synthetic), measure in pairs.items()
    ]


def compare(
    first: tuple[str, TestSet],
    second: tuple[str, TestSet],
    suite: str,
    parts: Sequence[Part],
    seed: int,
    resamples: int,
) -> list[Comparison]:
    """Two detectors on the same images: AUC and accuracy by slice, all figures on the whole."""
    (name_a, a), (name_b, b) = first, second
    named = {"suite": suite, "first": name_a, "second": name_b}
    right = [(t.probabilities_N >= t.threshold) == (t.codes["origin"] == 1) for t in (a, b)]
    found = []
    for at, (_, name, mask) in enumerate(parts):
        groups = None if a.groups_N is None else a.groups_N[mask]
        labels = a.codes["origin"][mask]
        auc = compare_auc(labels, a.logits_N[mask], b.logits_N[mask], groups)
        found.append(Comparison.of(auc, slice=name, figure="roc_auc", **named))
        if at:  # on the whole, the bootstrap has it
            accuracy = compare_balanced_accuracy(labels, right[0][mask], right[1][mask], groups)
            found.append(Comparison.of(accuracy, slice=name, figure="balanced_accuracy", **named))
    draws = generator(seed, "bootstrap", f"{suite}/{name_a}/{name_b}")
    differences = compare_figures(
        a.codes["origin"],
        (a.logits_N, a.probabilities_N),
        (b.logits_N, b.probabilities_N),
        draws,
        a.groups_N,
        (a.threshold, b.threshold),
        resamples,
    )
    whole = parts[0][1]
    return found + [
        Comparison.of(differences[figure], slice=whole, figure=figure, **named)
        for figure in COMPARED
    ]
