"""The figures of a report: curves, scores, features, and the images that went wrong."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from rayapp.dataset.images import ImageError, decode
from rayapp.metrics.evaluation import Evaluation
from rayapp.metrics.measure import Measure
from rayapp.metrics.probability import reliability_bins
from rayapp.metrics.ranking import Curve, pr_curve, roc_curve
from rayapp.metrics.scored import Scored
from rayapp.pages.blocks import Block, Figure, Figures, Gallery, Picture, Prose, Table
from rayapp.pages.charts import confusion_figure, embedding_figure, score_histogram, slices_figure
from rayapp.pages.curves import pr_figure, reliability_figure, robustness_figure, roc_figure
from rayapp.pages.thumbnails import thumbnail
from rayapp.report.evidence import Evidence, read_embedding
from rayapp.report.tables import heading, rows_of
from rayapp.storage.uris import open_store

_NUM_PICTURES = 12
_MOST_DETECTORS = 4  # with pictures of their own
_CHANCE = {"balanced_accuracy": 0.5, "roc_auc": 0.5}


def curves(several: Sequence[Evidence]) -> list[Figure]:
    """ROC, PR and reliability of every detector on one suite."""
    scored = {one.evaluation.detector_name: one.scored() for one in several if one.table}
    if len(several) == 1 and several[0].evaluation.held_out:
        scored = _by_training(several[0])
    roc, pr = _each(scored, roc_curve), _each(scored, pr_curve)
    if not roc:
        return []
    text = f"Test set: {several[0].evaluation.test_set}."
    bins = {name: reliability_bins(one) for name, one in scored.items()}
    thresholds = {one.evaluation.detector_name: one.evaluation.threshold for one in several}
    first = several[0].evaluation.threshold  # of one detector, its slices are drawn
    accuracies = {
        name: float(np.mean([right[one.labels_N == label].mean() for label in (0, 1)]))
        for name, one in scored.items()
        if name in roc
        for right in [(one.probabilities_N >= thresholds.get(name, first)) == (one.labels_N == 1)]
    }
    return [
        roc_figure(roc, caption=text, accuracies=accuracies),
        roc_figure(roc, low_fpr=True, caption="The same where few reals are called synthetic."),
        pr_figure(pr, caption=text),
        reliability_figure(bins, caption="All images, equal-mass bins, 95 % intervals."),
    ]


def _each(
    scored: dict[str, Scored], curve_of: Callable[[Scored], Curve | None]
) -> dict[str, Curve]:
    return {name: curve for name, one in scored.items() if (curve := curve_of(one)) is not None}


def _by_training(one: Evidence) -> dict[str, Scored]:
    """Generators and models seen in training apart from those held out of it."""
    assert one.table is not None
    unseen = np.zeros(one.table.num_rows, dtype=bool)
    for column in ("generator", "model"):
        if column in one.scheme.columns and column in one.table.column_names:
            names = one.scheme.names(column)
            held = [code for code, name in names.items() if name in one.evaluation.held_out]
            unseen |= np.isin(one.table[column].to_numpy(), held)
    real = one.truth_N == 0
    return {
        "all": one.scored(),
        "seen": one.scored(~unseen | real),
        "held-out": one.scored(unseen | real),
    }


def by_slice(several: Sequence[Evidence]) -> list[Figure]:
    """The headline figures by slice, a dot and interval a detector."""
    found = []
    for figure in several[0].evaluation.headline:
        drawn: dict[str, dict[str, Measure]] = {}
        for one in several:
            rows = rows_of(one.evaluation)
            mixed = len({part.column for part in rows if part.column}) > 1
            names = [f"{p.column}: {p.name}" if mixed and p.column else p.name for p in rows]
            measures = [part.figures[figure].measure() for part in rows]
            drawn[one.evaluation.detector_name] = dict(zip(names, measures, strict=True))
        reference = _CHANCE.get(figure) if several[0].evaluation.task == "origin" else None
        found.append(slices_figure(drawn, heading(figure), reference=reference))
    return found


def robustness(several: Sequence[Evidence]) -> list[Figure]:
    """The headline figures against the strength of a perturbation, with bands."""
    first = several[0].evaluation
    found = []
    for figure in first.headline if len(first.slices) > 1 else ():
        drawn = {
            one.evaluation.detector_name: sorted(
                (
                    (part.level or 0.0, part.figures[figure].measure())
                    for part in one.evaluation.slices
                ),
                key=lambda point: point[0],
            )
            for one in several
            if figure in one.evaluation.slices[0].figures
        }
        reference = _CHANCE.get(figure) if first.task == "origin" else None
        found.append(robustness_figure(drawn, first.axis, heading(figure), reference))
    return found


def confusion(one: Evaluation) -> Figure:
    """Which class was called which."""
    counts = np.asarray(one.confusion)
    return confusion_figure(counts, one.classes, caption=f"{one.detector_name}, {one.test_set}.")


def histogram(one: Evidence) -> Figure:
    """Scores of both classes."""
    e = one.evaluation
    caption = f"{e.detector_name}, {e.test_set}."
    return score_histogram(one.truth_N, one.probabilities_N, e.threshold, caption=caption)


def embeddings(uris: Sequence[str], evidence: Sequence[Evidence]) -> list[Figure]:
    """The features of some images of each detector, coloured by origin or generator."""
    found = []
    for uri in uris:
        digest, table = read_embedding(uri)
        mine = [e for e in evidence if e.table and e.evaluation.detector_hash == digest]
        if not mine:
            continue
        one = mine[0]
        named = {path: name for e in reversed(mine) for path, name in _names(e).items()}
        rows = [at for at, path in enumerate(table["path"].to_pylist()) if path in named]
        names = sorted({named[table["path"][at].as_py()] for at in rows})
        classes = [names.index(named[table["path"][at].as_py()]) for at in rows]
        points = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])[rows]
        caption = (
            f"{one.evaluation.detector_name}: backbone features of {len(rows)} test images, "
            "by t-SNE. Near points look alike to the detector; distances between groups "
            "mean nothing."
        )
        found.append(embedding_figure(points, classes, names, caption=caption))
    return found


def _names(one: Evidence) -> dict[str, str]:
    """Path → real, or the generator."""
    assert one.table is not None
    paths = one.table["path"].to_pylist()
    if "generator" not in one.table.column_names:
        classes = [("real", "synthetic")[label] for label in one.truth_N]
    else:
        names = one.scheme.names("generator")
        codes = one.table["generator"].to_pylist()
        classes = [names[c] if t else "real" for c, t in zip(codes, one.truth_N, strict=True)]
    return dict(zip(paths, classes, strict=True))


def mistakes(several: Sequence[Evidence]) -> list[Block]:
    """The images that are most wrong, and those that are least sure, detector by detector."""
    blocks: list[Block] = []
    for one in [e for e in several if e.table][:_MOST_DETECTORS]:
        e, p, truth = one.evaluation, one.probabilities_N, one.truth_N
        wrong = (p >= e.threshold) != (truth == 1)
        most = np.argsort(-np.where(truth == 1, 1 - p, p), kind="stable")
        unsure = np.argsort(np.abs(p - e.threshold), kind="stable")
        text = f"{int(wrong.sum()):,} of {len(truth):,} images are on the wrong side"
        blocks.append(Prose(f"{e.detector_name}: {text} of the threshold {e.threshold:g}."))
        blocks += _shown(one, _once(one, most[wrong[most]]), "Most wrong.", "wrong")
        blocks += _shown(one, _once(one, unsure), "Least sure: next to the threshold.", "unsure")
    return blocks


def _once(one: Evidence, order: NDArray[np.int64]) -> list[int]:
    """The first rows of different images: legacy lists hold some twice."""
    assert one.table is not None
    paths = one.table["path"]
    found: dict[str, int] = {}
    for row in order:
        if len(found) == _NUM_PICTURES:
            break
        found.setdefault(paths[int(row)].as_py(), int(row))
    return list(found.values())


def _shown(one: Evidence, rows: Sequence[int], caption: str, tone: str) -> list[Block]:
    """A gallery of images; a table of their names where the files are not at hand."""
    assert one.table is not None
    e, truth, p = one.evaluation, one.truth_N, one.probabilities_N
    maker = _names(one)
    pictures, unseen = [], []
    for row in rows:
        path, root = one.table["path"][row].as_py(), one.table["root"][row].as_py()
        called = "called synthetic" if p[row] >= e.threshold else "called real"
        try:
            pixels = decode(open_store(root or ".").get(path)).pixels_HWC
        except (OSError, ImageError):
            unseen.append([path, maker[path], called, float(p[row])])
            continue
        right = (p[row] >= e.threshold) == (truth[row] == 1)
        text = f"P(synthetic) = {p[row]:.3f}"
        pictures.append(
            Picture(
                thumbnail(pixels),
                maker[path],
                [text, PurePosixPath(path).name],
                mark=called,
                tone="right" if tone == "unsure" and right else tone,  # type: ignore[arg-type]
            )
        )
    blocks: list[Block] = [Gallery(pictures, caption)] if pictures else []
    if unseen:
        columns = ["image (not at hand)", "made by", "verdict", "P(synthetic)"]
        blocks.append(Table(columns, unseen, caption))
    return blocks


def figures(items: Sequence[Figure]) -> list[Block]:
    """Figures side by side; nothing where there is none."""
    return [Figures(list(items))] if items else []
