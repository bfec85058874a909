"""Figures made of curves: ROC, precision and recall, reliability, robustness."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from rayapp.metrics.measure import Measure
from rayapp.metrics.probability import ReliabilityBin
from rayapp.metrics.ranking import Curve
from rayapp.pages.blocks import Figure
from rayapp.pages.drawing import COLOURS, MARKERS, SOFT, drawing, line_style, number, say

_MAX_POINTS = 600
_LOW_FPR = 1e-3


def roc_figure(
    curves: Mapping[str, Curve],
    *,
    low_fpr: bool = False,
    caption: str = "",
    accuracies: Mapping[str, float] | None = None,
) -> Figure:
    """ROC curves with their areas; `low_fpr` draws FPR from 0.1 % on by its logarithm.

    `accuracies` are balanced accuracies at the threshold, to stand beside the areas.
    """
    fixed = {name: f", bal. acc. {value:.3f}" for name, value in (accuracies or {}).items()}
    areas = {name: float(np.trapezoid(c.y_T, c.x_T)) for name, c in curves.items()}
    with drawing() as draw:
        axes = draw.axes
        for index, (name, curve) in enumerate(curves.items()):
            x, y = _thinned(curve)
            label = name if low_fpr else f"{name}  (AUC {areas[name]:.3f}{fixed.get(name, '')})"
            axes.plot(x, y, label=label, drawstyle="steps-post", **line_style(index))
        start = np.geomspace(_LOW_FPR, 1, 200) if low_fpr else np.array([0, 1])
        axes.plot(start, start, color=SOFT, linewidth=0.9, linestyle=":", label="chance")
        if low_fpr:
            axes.set(xscale="log", xlim=(_LOW_FPR, 1))
            axes.set_xticks([0.001, 0.01, 0.05, 0.1, 1], ["0.1%", "1%", "5%", "10%", "100%"])
            axes.minorticks_off()
        else:
            axes.set_xlim(-0.01, 1.01)
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="false positives: reals called synthetic", ylabel="synthetics found")
        axes.set(ylim=(-0.01, 1.02), title="ROC at few false positives" if low_fpr else "ROC")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        listed = ", ".join(
            f"{name} {area:.3f}{fixed.get(name, '')}" for name, area in areas.items()
        )
        draw.legend()
        scale = " on a logarithmic axis of the false-positive rate" if low_fpr else ""
        return draw.figure(f"ROC curves{scale}. Area under the curve: {listed}.", caption)


def pr_figure(curves: Mapping[str, Curve], caption: str = "") -> Figure:
    """Precision against recall."""
    with drawing() as draw:
        axes = draw.axes
        for index, (name, curve) in enumerate(curves.items()):
            x, y = _thinned(curve)
            axes.plot(x, y, label=name, **line_style(index))
        axes.set(
            xlabel="recall: synthetics found", ylabel="precision", title="Precision and recall"
        )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        draw.legend()
        return draw.figure(f"Precision against recall for {', '.join(curves)}.", caption)


def reliability_figure(bins: Mapping[str, Sequence[ReliabilityBin]], caption: str = "") -> Figure:
    """Share of synthetics against mean probability in equal-mass bins, with 95 % intervals."""
    with drawing() as draw:
        axes = draw.axes
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=":", label="calibrated")
        for index, (name, row) in enumerate(bins.items()):
            x = np.array([b.mean_probability for b in row])
            y = np.array([b.share_synthetic for b in row])
            spans = np.array([[b.share_synthetic - b.low, b.high - b.share_synthetic] for b in row])
            axes.errorbar(
                x,
                y,
                yerr=np.maximum(spans.T, 0) if len(row) else None,
                label=name,
                marker=MARKERS[index % len(MARKERS)],
                markersize=4.5,
                elinewidth=1,
                color=COLOURS[index % len(COLOURS)],
                linewidth=1,
            )
        axes.set(xlabel="mean probability given", ylabel="share that is synthetic")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="Reliability")
        draw.legend()
        gaps = {
            name: max((abs(b.share_synthetic - b.mean_probability) for b in row), default=0)
            for name, row in bins.items()
        }
        listed = ", ".join(f"{name} {gap:.2f}" for name, gap in gaps.items())
        alt = f"Reliability diagram over equal-mass bins. Widest gap: {listed}."
        return draw.figure(alt, caption)


def robustness_figure(
    curves: Mapping[str, Sequence[tuple[float, Measure]]],
    x_label: str,
    y_label: str,
    reference: float | None = 0.5,
    caption: str = "",
) -> Figure:
    """A figure against the strength of a perturbation, with 95 % bands; points without a value gap.

    Each curve is a sequence of (strength, measure) in the order of the axis.
    """
    with drawing(3.5) as draw:
        axes = draw.axes
        for index, (name, points) in enumerate(curves.items()):
            x = [strength for strength, _ in points]
            value, low, high = (
                [number(getattr(m, part)) for _, m in points] for part in ("value", "low", "high")
            )
            style = line_style(index)
            marker = MARKERS[index % len(MARKERS)]
            axes.plot(x, value, label=name, marker=marker, markersize=4, **style)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)
        if reference is not None:
            axes.axhline(reference, color=SOFT, linewidth=0.9, linestyle=":")
        title = f"{y_label[:1].upper()}{y_label[1:]} under perturbation"
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        draw.legend()
        shown = "; ".join(
            f"{name}: " + ", ".join(f"{x:g} {say(m)}" for x, m in points)
            for name, points in curves.items()
        )
        return draw.figure(f"{y_label} against {x_label}. {shown}.", caption)


def _thinned(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points that can be told apart on paper: 40,000 of them would be megabytes of SVG."""
    # A step in log FPR is fine only where FPR is small, where a linear step would be coarse.
    log_x = np.log10(np.maximum(curve.x_T, _LOW_FPR / 10))
    cells = np.stack([np.round(_MAX_POINTS * curve.y_T), np.round(_MAX_POINTS / 4 * log_x)])
    kept = np.append(True, np.any(np.diff(cells, axis=1) != 0, axis=0))
    kept[-1] = True
    return curve.x_T[kept], curve.y_T[kept]
