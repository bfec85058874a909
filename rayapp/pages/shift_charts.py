"""Figures of traffic beside a reference: logits in counted bins, and a figure by day."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from rayapp.pages.blocks import Figure
from rayapp.pages.drawing import COLOURS, INK, SOFT, drawing

_MOST_BARS = 48
Floats = NDArray[np.float64]


def logits_figure(
    traffic_B: Floats,
    references: Mapping[str, Floats],
    edges: Sequence[float],
    marks: Mapping[str, float],
    name: str,
) -> Figure:
    """Shares of a day's images by logit, filled, and of the references, as lines.

    Args:
        traffic_B: counts in bins; the first and the last are open.
        references: name → counts or shares in the same bins.
        edges: between the bins, one fewer than they are.
        marks: name → logit at which a line is drawn, such as the threshold.
        name: what the day is called.
    """
    every = [traffic_B, *references.values()]
    used = np.flatnonzero(np.sum(every, axis=0))
    first, last = max(int(used.min()) - 1, 0), min(int(used.max()) + 1, len(traffic_B) - 1)
    step = max(1, -(-(last - first + 1) // _MOST_BARS))
    starts = np.arange(first, last + 1, step)
    places = np.append(starts, last + 1)  # bin b lies between edges b - 1 and b

    def shares(counts_B: Floats) -> Floats:
        return np.asarray(np.add.reduceat(counts_B[: last + 1], starts) / counts_B.sum())

    with drawing(3.5) as draw:
        axes = draw.axes
        axes.stairs(shares(traffic_B), places, fill=True, color=COLOURS[1], alpha=0.35, label=name)
        for at, (what, counts) in enumerate(references.items()):
            colour = (INK, COLOURS[0], COLOURS[2])[at % 3]
            axes.stairs(shares(counts), places, color=colour, linewidth=1.4, label=what)
        for what, logit in marks.items():
            place = float(np.interp(logit, edges, np.arange(1, len(edges) + 1)))
            axes.axvline(place, color=SOFT, linewidth=1.2, linestyle="--", label=what)
        ticks = np.unique(np.linspace(max(first, 1), min(last, len(edges)), 7).round().astype(int))
        axes.set_xticks(ticks, [f"{edges[at - 1]:.2g}" for at in ticks])
        axes.set(xlabel="logit", ylabel="share of images", title="Scores")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="x")
        draw.legend()
        return draw.figure(f"Histogram of logits: {name}, beside {', '.join(references)}.")


def days_figure(days: Mapping[str, tuple[float, float, float]], shown: str, title: str) -> Figure:
    """A share by day with its interval (share, low, high); the days `shown` are set off."""
    names = list(days)
    with drawing(2.6) as draw:
        axes = draw.axes
        for at, name in enumerate(names):
            share, low, high = days[name]
            colour = COLOURS[1] if name in shown else COLOURS[0]
            axes.plot([at, at], [low, high], color=colour, linewidth=1.4)
            axes.plot([at], [share], marker="o", markersize=4, color=colour)
        ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), 5)).round().astype(int))
        axes.set_xticks(ticks, [names[at] for at in ticks])
        axes.set(title=title, ylim=(0, None))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="x")
        said = "; ".join(f"{name}: {share:.1%}" for name, (share, *_) in days.items())
        return draw.figure(f"{title}: {said}.")
