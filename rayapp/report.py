"""The report: one self-contained page of what a detector can do, and on what grounds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from rayapp import __version__, load_detector, runs
from rayapp.errors import UserError
from rayapp.images import ImageError, decode, sha256
from rayapp.labels import LabelScheme, load_scheme, read_list
from rayapp.metrics.evaluation import EVALUATION_FILE, Evaluation, TestSet
from rayapp.metrics.probability import reliability_bins
from rayapp.metrics.ranking import Curve, roc_curve
from rayapp.pages.blocks import (
    Block,
    Figures,
    Gallery,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Picture,
    Prose,
    Table,
    Value,
)
from rayapp.pages.charts import score_histogram, slices_figure
from rayapp.pages.curves import reliability_figure, roc_figure
from rayapp.pages.page import Page, Section
from rayapp.pages.thumbnails import thumbnail
from rayapp.runs import duration
from rayapp.scores import images_root, read_scores, select
from rayapp.settings import JobSettings
from rayapp.storage import open_store, read_uri

REPORT_FILE = "report.html"
_NUM_PICTURES = 12
_SHOWN = ("balanced_accuracy", "roc_auc", "tpr_at_fpr_5pct", "eer", "nll", "calibration_error")
_HEADINGS = {
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "tpr_at_fpr_5pct": "TPR at 5 % FPR",
    "eer": "EER",
    "nll": "NLL",
    "calibration_error": "calibration error",
}


class ReportSettings(JobSettings):
    """Write one self-contained page from evaluations and the scores behind them."""

    evaluations: tuple[str, ...] = Field(
        min_length=1, description="outputs of evaluate; the first is the one in focus"
    )
    runs: tuple[str, ...] = Field(
        (), description="outputs of other stages to list under 'what ran'"
    )
    title: str = Field("Detector report", description="title of the page")
    note: str = Field("", description="what the reader must know before any figure")


@dataclass(frozen=True)
class Evidence:
    """An evaluation with the scores behind it."""

    evaluation: Evaluation
    scheme: LabelScheme
    table: pa.Table
    test: TestSet
    root: str


def report(settings: ReportSettings) -> runs.Run:
    """Write report.html.

    Raises:
        UserError: an evaluation or its scores are missing.
    """
    inputs = {
        uri: sha256(read_uri(f"{uri.rstrip('/')}/{EVALUATION_FILE}"))
        for uri in settings.evaluations
    }
    inputs |= {uri: sha256(read_uri(f"{uri.rstrip('/')}/{runs.RUN_FILE}")) for uri in settings.runs}
    run = runs.start(
        "report", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    evidence = [_evidence(uri) for uri in settings.evaluations]
    page = Page(
        title=settings.title,
        summary=_summary(evidence[0].evaluation),
        sections=_sections(evidence, settings),
        kicker="AI-generated or real",
        footer=f"imaginet-ray {__version__}",
    )
    run.store.put(REPORT_FILE, page.html().encode())
    run.finish({"evaluations": len(evidence)})
    return run


def _evidence(uri: str) -> Evidence:
    data = json.loads(read_uri(f"{uri.rstrip('/')}/{EVALUATION_FILE}"))
    evaluation = Evaluation.model_validate(data)
    scheme = load_scheme(evaluation.scheme)
    table = read_scores(open_store(evaluation.scores), evaluation.detector_hash)
    items = read_list(evaluation.annotations, scheme).items
    chosen = select(table, items, scheme, evaluation.annotations)
    calibration = load_detector(evaluation.detector).spec.calibration
    if (calibration.hash if calibration else None) != evaluation.calibration_hash:
        raise UserError(f"{evaluation.detector}: calibrated anew since {uri}; run evaluate again")
    test = TestSet.of(chosen, scheme, calibration)
    return Evidence(evaluation, scheme, chosen, test, images_root(table))


def _summary(evaluation: Evaluation) -> str:
    seen = evaluation.slice("training", "seen") or evaluation.whole
    auc, accuracy = seen.figures["roc_auc"], seen.figures["balanced_accuracy"]
    unseen = evaluation.slice("training", "held-out")
    held = f" and {_said(unseen.figures['roc_auc'])} on a held-out one" if unseen else ""
    what = "generators seen in training" if unseen else "the whole test set"
    return (
        f"On {evaluation.test_set} the detector reaches a ROC AUC of {_said(auc)} on {what}{held}; "
        f"balanced accuracy is {_said(accuracy)} at the threshold {evaluation.threshold:g}."
    )


def _said(figure: Any) -> str:
    if figure.value is None:
        return f"no value ({figure.reason})"
    if figure.low is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} (95 % interval {figure.low:.3f}–{figure.high:.3f})"


def _sections(evidence: Sequence[Evidence], settings: ReportSettings) -> list[Section]:
    first = evidence[0]
    opening: list[Block] = [Notice(settings.note)] if settings.note else []
    opening += [_highlights(evidence), Figures([_roc(first), _reliability(evidence)])]
    return [
        Section("Result", opening),
        Section("By slice", _slices(evidence)),
        Section("Scores", [_histogram(first)]),
        Section("Worst mistakes", _mistakes(first)),
        Section("What was run", _provenance(evidence, settings.runs)),
    ]


def _highlights(evidence: Sequence[Evidence]) -> Highlights:
    items = []
    for one in evidence:
        for part in (one.evaluation.slice("training", n) for n in ("seen", "held-out")):
            part = part or one.evaluation.whole
            label = f"ROC AUC, {part.name}, {one.evaluation.test_set}"
            remark = f"{part.num_real} real, {part.num_synthetic} synthetic"
            item = Highlight(label, part.figures["roc_auc"].measure(), remark)
            if item not in items:
                items.append(item)
    return Highlights(items)


def _roc(one: Evidence) -> Any:
    held_out = one.evaluation.held_out
    wanted = {"seen", "held-out"} if held_out else {"all"}
    curves: dict[str, Curve] = {}
    for _, name, mask in one.test.slices(one.scheme, held_out):
        curve = roc_curve(one.test.scored(mask)) if name in wanted else None
        if curve is not None:
            curves[name] = curve
    return roc_figure(curves, caption=f"Test set: {one.evaluation.test_set}.")


def _reliability(evidence: Sequence[Evidence]) -> Any:
    everything = {
        one.evaluation.test_set: reliability_bins(
            one.test.scored(np.ones(len(one.test.logits_N), dtype=bool))
        )
        for one in evidence
    }
    return reliability_figure(everything, caption="All images, equal-mass bins.")


def _slices(evidence: Sequence[Evidence]) -> list[Block]:
    blocks: list[Block] = [
        Prose(
            "A slice by generator holds that generator's images and all real ones. Intervals "
            f"(95 %) come from {evidence[0].evaluation.num_groups} resampled "
            f"{evidence[0].evaluation.resampled}, not from single crops."
        )
    ]
    drawn = {
        one.evaluation.test_set: {
            _slice_name(part): part.figures["roc_auc"].measure() for part in one.evaluation.slices
        }
        for one in evidence
    }
    blocks.append(Figures([slices_figure(drawn, "ROC AUC", reference=0.5)]))
    columns = ["test set", "slice", "real", "synthetic", *(_HEADINGS[name] for name in _SHOWN)]
    rows: list[list[Value]] = [
        [
            one.evaluation.test_set,
            _slice_name(part),
            part.num_real,
            part.num_synthetic,
            *(part.figures[name].measure() for name in _SHOWN),
        ]
        for one in evidence
        for part in one.evaluation.slices
    ]
    return [*blocks, Table(columns, rows, "Every slice; a click on a heading sorts.")]


def _slice_name(part: Any) -> str:
    return f"{part.column}: {part.name}" if part.column else str(part.name)


def _histogram(one: Evidence) -> Figures:
    return Figures(
        [score_histogram(one.test.codes["origin"], one.test.probabilities_N, one.test.threshold)]
    )


def _mistakes(one: Evidence) -> list[Block]:
    """The images that are most wrong, as thumbnails."""
    test = one.test
    truth = test.codes["origin"]
    wrongness = np.where(truth == 1, 1 - test.probabilities_N, test.probabilities_N)
    wrong = (test.probabilities_N >= test.threshold) != (truth == 1)
    order = np.argsort(-wrongness, kind="stable")
    order = order[wrong[order]]
    store = open_store(one.root)
    pictures = []
    for row in order[:_NUM_PICTURES]:
        path = one.table["path"][int(row)].as_py()
        try:
            pixels = decode(store.get(path)).pixels_HWC
        except (OSError, ImageError) as error:
            raise UserError(f"{store.uri(path)}: can't be shown: {error}") from None
        is_real = truth[row] == 0
        said = f"P(synthetic) = {test.probabilities_N[row]:.3f}"
        pictures.append(
            Picture(
                thumbnail(pixels),
                f"{'real' if is_real else _maker(one, int(row))}",
                [said, PurePosixPath(path).name],
                mark="called synthetic" if is_real else "called real",
                tone="wrong",
            )
        )
    said = f"{int(wrong.sum())} of {len(truth)} images are on the wrong side of the threshold."
    return [Prose(said), *([Gallery(pictures)] if pictures else [])]


def _maker(one: Evidence, row: int) -> str:
    if "generator" not in one.test.codes:
        return "synthetic"
    return one.scheme.names("generator")[int(one.test.codes["generator"][row])]


def _provenance(evidence: Sequence[Evidence], uris: Sequence[str]) -> list[Block]:
    first = evidence[0].evaluation
    facts: dict[str, Any] = {
        "detector": first.detector_hash[:16],
        "calibration": (first.calibration_hash or "none")[:16],
        "threshold": f"{first.threshold:g}",
        "unsure between": "–"
        if first.band is None
        else f"{first.band[0]:.3f} and {first.band[1]:.3f}",
        "intervals": f"95 %, bootstrap over {first.num_groups} {first.resampled}",
        **{f"version of {name}": version for name, version in runs.versions().items()},
    }
    blocks: list[Block] = [KeyValues(facts)]
    rows = []
    for uri in uris:
        record = json.loads(read_uri(f"{uri.rstrip('/')}/{runs.RUN_FILE}"))
        counts = ", ".join(f"{name} {value}" for name, value in record["counts"].items())
        rows.append([record["stage"], duration(record["seconds"]), counts, record["finished"]])
    if rows:
        blocks.append(Table(["stage", "took", "counts", "finished (UTC)"], rows))
    return blocks
