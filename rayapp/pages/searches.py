"""Figures of a search: its history, what mattered, which values did well, and the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rayapp.pages.blocks import Figure
from rayapp.pages.drawing import COLOURS, INK, SOFT, drawing

_BEST, _OTHER = COLOURS[1], COLOURS[0]
_MAP = "viridis"


@dataclass(frozen=True)
class Trial:
    """A trial as drawn: its number, its first value, and the values of what was searched."""

    number: int
    value: float
    params: Mapping[str, Any]


@dataclass(frozen=True)
class AxisScale:
    """How a searched field is laid out: by its number, its logarithm, or as one of `choices`."""

    name: str
    log: bool = False
    choices: Sequence[Any] = ()

    def place(self, value: Any) -> float:
        """Where a value lies, before the axis is stretched to 0…1."""
        if self.choices:
            return float(list(self.choices).index(value))
        return float(np.log10(value)) if self.log else float(value)


def history_figure(
    finished: Sequence[Trial],
    stopped: Sequence[int],
    failed: Sequence[int],
    label: str,
    maximise: bool,
    reference: float | None = None,
    reference_name: str = "recipe",
    caption: str = "",
) -> Figure:
    """The value of each trial by its number, and the best so far; ticks where trials ended early.

    `reference` is the value of the recipe that the search started from.
    """
    trials = sorted(finished, key=lambda trial: trial.number)
    numbers, values = [t.number for t in trials], np.array([t.value for t in trials])
    best = (np.maximum if maximise else np.minimum).accumulate(values)
    with drawing(3.6) as draw:
        axes = draw.axes
        axes.plot(numbers, values, "o", color=_OTHER, alpha=0.55, markersize=4, label="trial")
        axes.step(numbers, best, where="post", color=_BEST, label="best so far")
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=1, linestyle=":", label=reference_name)
        for ended, name, mark, colour in (
            (stopped, "stopped early", "|", SOFT),
            (failed, "failed", "x", COLOURS[3]),
        ):
            if ended:
                at = axes.get_xaxis_transform()
                axes.plot(ended, [0.02] * len(ended), mark, color=colour, transform=at, label=name)
        last = max([*numbers, *stopped, *failed])
        axes.set(xlabel="trial", ylabel=label, title="History", xlim=(-0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _closer(axes, values, maximise)
        draw.legend()
        return draw.figure(
            f"{label} of {len(trials)} trials; the best is {best[-1]:.4f} after "
            f"{len(trials)} trials, {len(stopped)} stopped early, {len(failed)} failed.",
            caption,
        )


def _closer(axes: Any, values: NDArray[np.float64], maximise: bool) -> None:
    """Leave the worst tenth outside where it would flatten all the rest."""
    if len(values) < 20:
        return
    low, high = np.quantile(values, (0.1, 1.0) if maximise else (0.0, 0.9))
    whole = np.ptp(values)
    if high - low < whole / 4:
        pad = 0.08 * (high - low or whole)
        axes.set_ylim(low - pad, high + pad)


def importance_figure(importance: Mapping[str, float], caption: str = "") -> Figure:
    """How much of the value's variation each searched field accounts for, largest first."""
    names = sorted(importance, key=lambda name: -importance[name])
    with drawing(1.0 + 0.3 * len(names)) as draw:
        axes = draw.axes
        shares = [importance[name] for name in names]
        axes.barh(range(len(names)), shares, color=_OTHER, height=0.62)
        for at, share in enumerate(shares):
            axes.text(share, at, f" {share:.2f}", va="center", fontsize=8.5, color=INK)
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set(xlim=(0, max([*shares, 0.01]) * 1.14), ylim=(len(names) - 0.5, -0.5))
        axes.set(xlabel="importance (PED-ANOVA)", title="What mattered")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        text = ", ".join(f"{name} {importance[name]:.2f}" for name in names)
        return draw.figure(f"Importance of what was searched: {text}.", caption)


def parallel_figure(
    finished: Sequence[Trial],
    axes_of: Sequence[AxisScale],
    label: str,
    maximise: bool,
    caption: str = "",
) -> Figure:
    """Each trial as a line through its values, coloured by what came of it; the best stands out.

    A field that a trial did not have breaks its line.
    """
    trials = sorted(finished, key=lambda t: t.value, reverse=not maximise)
    values = np.array([trial.value for trial in trials])
    low, high = np.quantile(values, (0.1, 1.0) if maximise else (0.0, 0.9))
    colours = ScalarMappable(Normalize(low, high), _MAP if maximise else f"{_MAP}_r")
    spans = [_span(scale, trials) for scale in axes_of]
    rows = range(len(axes_of))
    with drawing(1.2 + 0.62 * len(axes_of)) as draw:
        axes = draw.axes
        for trial in trials:
            is_best = trial is trials[-1]
            axes.plot(
                [_placed(s, trial, span) for s, span in zip(axes_of, spans, strict=True)],
                rows,
                color=_BEST if is_best else colours.to_rgba(np.array([trial.value]))[0],
                linewidth=2.4 if is_best else 0.9,
                alpha=1 if is_best else 0.6,
                marker="o",
                markersize=5 if is_best else 2,
                zorder=3 if is_best else 2,
            )
        for at, scale in enumerate(axes_of):
            axes.axhline(at, color="#9aa3ab", linewidth=0.9, zorder=1)
            _ticks(axes, at, _marks(scale, trials, spans[at]))
        axes.set_yticks(rows, [scale.name for scale in axes_of], color=INK, fontsize=8.5)
        axes.set(xticks=[], xlim=(-0.06, 1.06), ylim=(len(axes_of) - 0.4, -0.3))
        axes.set_title("Values of every trial; the best in orange")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(axis="y", length=0)
        bar = axes.figure.colorbar(
            colours, ax=axes, orientation="horizontal", pad=0.02, aspect=40, extend="both"
        )
        bar.set_label(label, fontsize=8.5)
        bar.ax.tick_params(labelsize=8)
        best = trials[-1]
        text = ", ".join(f"{name} {value}" for name, value in best.params.items())
        return draw.figure(
            f"Values of {len(trials)} trials; the best, {best.value:.4f}, has {text}.", caption
        )


def _span(scale: AxisScale, trials: Sequence[Trial]) -> tuple[float, float]:
    if scale.choices:
        return 0.0, float(max(len(scale.choices) - 1, 1))
    places = _places(scale, trials)
    low, high = min(places, default=0.0), max(places, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _places(scale: AxisScale, trials: Sequence[Trial]) -> list[float]:
    return [scale.place(t.params[scale.name]) for t in trials if scale.name in t.params]


def _marks(
    scale: AxisScale, trials: Sequence[Trial], span: tuple[float, float]
) -> list[tuple[float, str]]:
    """Where on an axis, 0…1, a value is named: each choice, or the least and the largest tried."""
    if scale.choices:
        named = [(float(k), str(choice)) for k, choice in enumerate(scale.choices)]
    else:
        ends = sorted({end(found) for end in (min, max) if (found := _places(scale, trials))})
        named = [(place, f"{10**place if scale.log else place:.3g}") for place in ends]
    return [((place - span[0]) / (span[1] - span[0]), text) for place, text in named]


def _placed(scale: AxisScale, trial: Trial, span: tuple[float, float]) -> float:
    if scale.name not in trial.params:
        return float("nan")
    place = (scale.place(trial.params[scale.name]) - span[0]) / (span[1] - span[0])
    # Lines through one choice would hide each other.
    return place + (0.06 * (trial.number * 0.618 % 1 - 0.5) if scale.choices else 0.0)


def _ticks(axes: Any, at: int, marks: Sequence[tuple[float, str]]) -> None:
    for x, text in marks:
        shown = text if len(text) <= 16 else f"{text[:15]}…"
        side = "left" if x < 0.01 else "right" if x > 0.99 else "center"
        axes.text(x, at + 0.3, shown, fontsize=7.5, color=SOFT, ha=side, va="center", zorder=4)


def front_figure(
    points: Sequence[tuple[float, float]],
    on_front: Sequence[int],
    numbers: Sequence[int],
    labels: tuple[str, str],
    reference: tuple[float, float] | None = None,
    reference_name: str = "recipe",
    caption: str = "",
) -> Figure:
    """Two values of every trial, and the front: the points that none beats in both."""
    with drawing(3.8) as draw:
        axes = draw.axes
        others = [p for at, p in enumerate(points) if at not in set(on_front)]
        if others:
            axes.plot(
                *zip(*others, strict=True),
                "o",
                color=_OTHER,
                alpha=0.45,
                markersize=4,
                label="trial",
            )
        chosen = sorted((points[at], numbers[at]) for at in on_front)
        xs, ys = zip(*(point for point, _ in chosen), strict=True)
        axes.plot(xs, ys, "o-", color=_BEST, markersize=5.5, linewidth=1.2, label="Pareto front")
        step = -(-len(chosen) // 10)
        for (x, y), number in chosen[::step]:
            axes.annotate(str(number), (x, y), (4, 4), textcoords="offset points", fontsize=8)
        if reference:
            axes.plot(*reference, "D", color=INK, markersize=6, label=reference_name)
        axes.set(xlabel=labels[0], ylabel=labels[1], title="Pareto front")
        draw.legend()
        text = "; ".join(f"trial {number} {x:.4f}, {y:.4f}" for (x, y), number in chosen)
        return draw.figure(f"{labels[1]} against {labels[0]}. On the front: {text}.", caption)
