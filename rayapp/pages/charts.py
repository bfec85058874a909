"""Figures made of slices, scores and classes: intervals, histograms, confusion, embedding."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from rayapp.metrics.measure import Measure
from rayapp.pages.blocks import Figure
from rayapp.pages.drawing import COLOURS, INK, MARKERS, REAL, SOFT, SYNTHETIC, drawing, number, say


def slices_figure(
    slices: Mapping[str, Mapping[str, Measure]],
    label: str,
    reference: float | None = None,
    caption: str = "",
) -> Figure:
    """One figure by slice, dot and 95 % interval, for each detector: {detector: {slice: Measure}}.

    `reference` draws a line, such as 0.5 for chance. A slice without a value says so.
    """
    names = list(dict.fromkeys(name for row in slices.values() for name in row))
    with drawing(1.1 + 0.34 * len(names) * max(1.0, 0.55 * len(slices))) as draw:
        axes = draw.axes
        for index, (detector, row) in enumerate(slices.items()):
            offset = (index - (len(slices) - 1) / 2) * 0.22
            _dots(axes, [row.get(name, Measure(None)) for name in names], offset, index, detector)
        if reference is not None:
            axes.axvline(reference, color=SOFT, linewidth=0.9, linestyle=":")
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set(
            ylim=(len(names) - 0.5, -0.5),
            xlabel=label,
            title=f"{label[:1].upper()}{label[1:]} by slice",
        )
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        if len(slices) > 1:
            draw.legend()
        shown = "; ".join(
            f"{detector}: " + ", ".join(f"{name} {say(m)}" for name, m in row.items())
            for detector, row in slices.items()
        )
        return draw.figure(f"{label} by slice. {shown}.", caption)


def score_histogram(
    labels_N: ArrayLike,
    values_N: ArrayLike,
    threshold: float | None = None,
    x_label: str = "probability of synthetic",
    caption: str = "",
) -> Figure:
    """Scores or probabilities of reals and of synthetics, each as shares of its own class."""
    labels, values = np.asarray(labels_N), np.asarray(values_N, dtype=np.float64)
    unit = len(values) > 0 and values.min() >= 0 and values.max() <= 1
    edges = np.linspace(0, 1, 41) if unit else np.histogram_bin_edges(values, 40)
    with drawing(3.5) as draw:
        axes = draw.axes
        for label, name, colour, hatch in (
            (0, "real", REAL, ""),
            (1, "synthetic", SYNTHETIC, "//"),
        ):
            chosen = values[labels == label]
            heights = np.histogram(chosen, edges)[0] / max(len(chosen), 1)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.28, hatch=hatch)
            shown = f"{name} ({len(chosen):,})"
            axes.stairs(heights, edges, color=colour, linewidth=1.3, label=shown)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label="threshold")
        axes.set(xlabel=x_label, ylabel="share of the class", title="Scores of both classes")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="x")
        draw.legend()
        num_synthetic = int((labels == 1).sum())
        alt = (
            f"Histogram of {x_label}: {len(labels) - num_synthetic} real, {num_synthetic} synthetic"
        )
        marked = "" if threshold is None else f"; threshold {threshold:.3f}"
        return draw.figure(f"{alt}{marked}.", caption)


def confusion_figure(counts_KK: ArrayLike, names: Sequence[str], caption: str = "") -> Figure:
    """True class by row, predicted class by column; colour and per cent are shares of the row."""
    counts = np.asarray(counts_KK)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with drawing(1.3 + 0.48 * len(names)) as draw:
        axes = draw.axes
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*counts.shape):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share > 0.55 else INK if share >= 0.005 else "#9aa3ab",
            )
        axes.set_xticks(range(len(names)), names)
        if len(names) > 4:
            for tick in axes.get_xticklabels():
                tick.set(rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true", title="Confusion, % of the true class")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        diagonal = ", ".join(f"{n} {100 * shares[k, k]:.0f}%" for k, n in enumerate(names))
        return draw.figure(f"Confusion matrix. Recognised rightly: {diagonal}.", caption)


def embedding_figure(
    points_N2: ArrayLike, classes_N: ArrayLike, names: Sequence[str], caption: str = ""
) -> Figure:
    """A 2-D embedding of features, a point an image, coloured by class; a PNG."""
    points, classes = np.asarray(points_N2), np.asarray(classes_N)
    with drawing(4.4) as draw:
        axes = draw.axes
        for index, name in enumerate(names):
            chosen = points[classes == index]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=7,
                alpha=0.6,
                linewidths=0,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                label=name,
            )
        axes.set(xticks=[], yticks=[], title="Features in two dimensions")
        axes.spines[:].set_visible(False)
        draw.legend(markerscale=2)
        alt = f"Two-dimensional embedding of {len(points)} images of {', '.join(names)}."
        return draw.figure(alt, caption, raster=True)


def _dots(axes: Axes, row: Sequence[Measure], offset: float, index: int, name: str) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    y = np.arange(len(row)) + offset
    value = [number(m.value) for m in row]
    axes.hlines(
        y, [number(m.low) for m in row], [number(m.high) for m in row], color=colour, linewidth=1.6
    )
    axes.plot(value, y, marker, color=colour, markersize=5.5, label=name)
    for position, measure in zip(y, row, strict=True):
        if measure.value is None:
            text = measure.reason or "no value"
            axes.text(
                0.02,
                position,
                text,
                transform=axes.get_yaxis_transform(),
                color=SOFT,
                va="center",
                fontsize=8,
                style="italic",
            )
