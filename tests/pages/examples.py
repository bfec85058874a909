"""A page with one of everything, small enough to draw in a second or two."""

import numpy as np

from rayapp.metrics.measure import Measure
from rayapp.metrics.probability import reliability_bins
from rayapp.metrics.ranking import pr_curve, roc_curve
from rayapp.metrics.scored import Scored
from rayapp.pages import charts, curves
from rayapp.pages.blocks import (
    Commands,
    Figure,
    Figures,
    Gallery,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Picture,
    Prose,
    Table,
)
from rayapp.pages.page import Page, Section
from rayapp.pages.thumbnails import thumbnail


def scored(num: int, gap: float = 2.0, seed: int = 0) -> Scored:
    labels = np.arange(num) % 2
    scores = np.random.default_rng(seed).normal(gap * labels, 1)
    return Scored.of(labels, scores, 1 / (1 + np.exp(-gap * (scores - gap / 2))))


def all_figures(num: int = 300) -> dict[str, Figure]:
    detectors = {"A": scored(num), "B & <b>": scored(num, 1.0, 1)}
    roc = {name: c for name, s in detectors.items() if (c := roc_curve(s))}
    pr = {name: c for name, s in detectors.items() if (c := pr_curve(s))}
    missing = Measure(None, reason="no synthetic items")
    slices = {
        "A": {"gan": Measure(0.9, 0.85, 0.95), "sd": Measure(0.8)},
        "B": {"gan": Measure(0.7, 0.6, 0.8), "sd": missing},
    }
    sweep = {"A": [(40.0, Measure(0.7, 0.6, 0.8)), (70.0, missing), (100.0, Measure(0.9))]}
    first = detectors["A"]
    points = np.random.default_rng(2).normal(size=(num, 2))
    return {
        "roc": curves.roc_figure(roc),
        "low fpr": curves.roc_figure(roc, low_fpr=True),
        "pr": curves.pr_figure(pr),
        "reliability": curves.reliability_figure({"after": reliability_bins(first)}),
        "robustness": curves.robustness_figure(sweep, "JPEG quality", "ROC AUC"),
        "slices": charts.slices_figure(slices, "ROC AUC", 0.5),
        "one detector": charts.slices_figure({"A": slices["A"]}, "ROC AUC"),
        "histogram": charts.score_histogram(first.labels_N, first.probabilities_N, 0.4),
        "confusion": charts.confusion_figure(np.eye(5, dtype=int) * 9 + 1, list("abcde")),
        "embedding": charts.embedding_figure(points, np.arange(num) % 2, ["real", "gan"]),
    }


def example_page(figures: list[Figure]) -> Page:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    measures = [Measure(0.9, 0.85, 0.95), Measure(None, reason="needs both classes"), Measure(0.95)]
    rows = [[f"gen_{k} 50%", 10 * k, m, "x|y"] for k, m in enumerate(measures)]
    long = [
        ["stable_diffusion_and_derivatives/unconditionally generated", "retrained detector"] * 4
    ]
    wide = Table([f"column {k}" for k in range(30)], [list(range(30))], "Wide.")
    return Page(
        "A <title>",
        "One sentence & its result.",
        [
            Section(
                "Result",
                [
                    Highlights([Highlight("ROC AUC", measures[0]), Highlight("Items", 3)]),
                    Prose("A paragraph with `code`."),
                    Notice("Mind this.", "warning"),
                    Table(["slice", "n", "auc", "note"], rows, "By slice."),
                    wide,
                    Table([f"heading number {k}" for k in range(8)], long, "Long words."),
                ],
            ),
            Section("Figures", [Figures(figures)]),
            Section("Pictures", [Gallery([Picture(thumbnail(image), "x" * 80, ["p"], "real")])]),
            Section("Provenance", [KeyValues({"hash": "f" * 64}), Commands("make demo\nls -l")]),
        ],
        "kicker",
        "footer",
    )
