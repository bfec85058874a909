"""What a detector was never trained on, by its own training lists; and what intervals resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.grouping import joined
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.leakage import training_lists
from rayapp.dataset.manifest import item_rows
from rayapp.dataset.scores import names_by, photographs
from rayapp.metrics.evaluation import Figure, LeftOut

if TYPE_CHECKING:
    from rayapp.evaluate.detectors import Measured
    from rayapp.evaluate.judge import Judged
    from rayapp.evaluate.settings import EvaluateSettings, LeaveOut
    from rayapp.metrics.evaluation import Evaluation
    from rayapp.metrics.testset import Part

Names = NDArray[np.str_]


def own_slices(
    detector: Measured, judged: Judged, settings: EvaluateSettings, root: str | None
) -> tuple[list[Part], dict[str, Any]]:
    """The slices of own lists, and the evaluation's fields that say what was held out.

    Raises:
        UserError: see never_trained_on.
    """
    by, held_out = settings.leave_out, settings.held_out
    unseen: tuple[str, ...] = ()
    if by is not None:
        unseen = never_trained_on(detector, judged, by, root)
        held_out = () if by == "source" else unseen
    parts = judged.test.slices(judged.items.scheme, held_out)
    if by == "source":
        parts += source_slices(judged, unseen, root)
    fields: dict[str, Any] = {"held_out": held_out, "left_out": unseen}
    if settings.resample_by:
        fields["resampled"] = f"groups by photograph, {', '.join(settings.resample_by)}"
    return parts, fields


def resampled(judged: Judged, columns: Sequence[str], root: str | None) -> Judged:
    """The same images; intervals resample those that share a value of a column as one."""
    if not columns:
        return judged
    return replace(judged, test=replace(judged.test, groups_N=resampled_by(judged, columns, root)))


def never_trained_on(
    detector: Measured, judged: Judged, column: LeaveOut, root: str | None
) -> tuple[str, ...]:
    """Names in the test set that the detector's training lists do not hold.

    Generators or models of its synthetic images; sources of its real ones.

    Raises:
        UserError: its lists, or a source in them, can't be read.
    """
    recorded = detector.spec.provenance.get("settings", {})
    lists = [items for _, items in training_lists(detector.spec.provenance)]
    for one in lists or [UserError("it names no training lists")]:
        if isinstance(one, UserError):
            raise UserError(
                f"{detector.name}: --leave-out needs what it was trained on, and {one}"
            ) from one
    scheme = load_scheme(recorded["scheme"])
    rows = item_rows([item for items in lists if isinstance(items, list) for item in items], scheme)
    names = np.asarray(names_by(rows, column, scheme, recorded.get("root")))
    seen = set(names[_of_class(rows["origin"].to_numpy(), column)])
    here = kinds_of(judged, column, root)[_of_class(judged.test.codes["origin"], column)]
    return tuple(sorted(set(map(str, here)) - set(map(str, seen))))


def kinds_of(judged: Judged, column: LeaveOut, root: str | None) -> Names:
    """Generator, model or source of each image, by name."""
    return np.asarray(names_by(judged.rows, column, judged.items.scheme, root))


def _of_class(origins_N: NDArray[np.int64], column: LeaveOut) -> NDArray[np.bool_]:
    return np.asarray(origins_N == (0 if column == "source" else 1))


def source_slices(judged: Judged, unseen: Sequence[str], root: str | None) -> list[Part]:
    """Each source of real images against all synthetic ones; and those never trained on."""
    synthetic = judged.test.codes["origin"] == 1
    names = kinds_of(judged, "source", root)
    found: list[Part] = []
    if unseen:
        held = ~synthetic & np.isin(names, list(unseen))
        found += [("training", "seen", ~held), ("training", "held-out", synthetic | held)]
    real = sorted(set(map(str, names[~synthetic])))
    return found + [("source", name, synthetic | (names == name)) for name in real]


def gather(column: LeaveOut, evaluations: Sequence[Evaluation]) -> list[LeftOut]:
    """A row a name and detector that was never trained on it, by suite and name."""
    found = []
    for one in evaluations:
        for name in one.left_out:
            # Where a family has one model, both columns cut one slice.
            part = one.slice(column, name) or one.slice("generator", name)
            if part is not None:
                none = Figure(reason="not measured")
                figures = {f: part.figures.get(f, none) for f in ("roc_auc", "balanced_accuracy")}
                found.append(
                    LeftOut(
                        suite=one.suite,
                        column=column,
                        name=name,
                        detector=one.detector_name,
                        num_real=part.num_real,
                        num_synthetic=part.num_synthetic,
                        **figures,
                    )
                )
    return sorted(found, key=lambda row: (row.suite, row.name, row.detector))


def as_text(rows: Sequence[LeftOut]) -> str:
    """The rows for a terminal, then mean and lowest over names; a name's detectors count as one."""
    by_name: dict[str, list[float]] = {}
    lines = [f"Never trained on, by {rows[0].column}: ROC AUC, balanced accuracy"]
    for row in rows:
        auc, accuracy = row.roc_auc.value, row.balanced_accuracy.value
        lines.append(f"  {row.name}  {row.detector}  {_shown(auc)}  {_shown(accuracy)}")
        if auc is not None:
            by_name.setdefault(row.name, []).append(auc)
    means = {name: float(np.mean(values)) for name, values in by_name.items()}
    if means:
        worst = min(means, key=lambda name: means[name])
        lines.append(
            f"  mean of {len(means)}: {np.mean(list(means.values())):.3f}; "
            f"lowest: {means[worst]:.3f} ({worst})"
        )
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def resampled_by(judged: Judged, columns: Sequence[str], root: str | None) -> Names:
    """What intervals resample as one: images of one photograph, or of one value of a column.

    Raises:
        UserError: neither the scores nor the images' manifest have the column.
    """
    scheme, real = judged.items.scheme, judged.test.codes["origin"] == 0
    keys = [[f"photograph\0{name}"] for name in photographs(judged.rows)]
    for column in columns:
        values = names_by(judged.rows, column, scheme, root)
        for at, value in enumerate(values):
            if value != "unknown":
                # A source's reals and synthetics are two draws: resampling goes by class.
                keys[at].append(f"{column}\0{value}\0{real[at]}")
    return np.asarray([str(group) for group in joined(keys)])
