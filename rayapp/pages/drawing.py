"""The house style of figures: size, colours, and how a drawn figure becomes part of a page."""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from rayapp.metrics.measure import Measure
from rayapp.pages.blocks import Figure

# Okabe and Ito's colours, told apart with any colour vision; yellow left out as too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REAL, SYNTHETIC = COLOURS[0], COLOURS[1]
INK, SOFT, GRID = "#1c2024", "#5b646d", "#e3e6e8"
_WIDTH_IN = 5.2
_LEGEND_LETTERS, _LEGEND_ROW_IN = 84, 0.18  # that fit into the width, with seven for each line
_STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.edgecolor": "#9aa3ab",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "rayapp",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


_UNNAMED = re.compile(r"_(child\d+|nolegend_)?")  # what matplotlib calls what nobody named


class Drawing:
    """One matplotlib figure being drawn; `figure` turns it into a Figure once it is closed."""

    def __init__(self, canvas: Canvas, axes: Axes) -> None:
        self.axes = axes
        self._canvas = canvas

    def legend(self, **options: Any) -> None:
        """What is drawn, named under the plot: inside it, it would hide some of it."""
        # Not by get_legend_handles_labels, which leaves out names that begin with "_".
        axes = self.axes
        drawn: list[Any] = [*axes.lines, *axes.patches, *axes.collections, *axes.containers]
        named = {one: str(one.get_label()) for one in drawn}
        named = {one: name for one, name in named.items() if not _UNNAMED.fullmatch(name)}
        handles, names = list(named), list(named.values())
        columns = max(1, min(len(names), int(_LEGEND_LETTERS // (max(map(len, names)) + 7))))
        rows = -(-len(names) // columns)
        self._canvas.set_figheight(self._canvas.get_figheight() + _LEGEND_ROW_IN * rows)
        legend = self._canvas.legend(
            handles, names, loc="outside lower left", ncols=columns, borderaxespad=0.2, **options
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may hold "$"

    def figure(self, alt: str, caption: str = "", *, raster: bool = False) -> Figure:
        """The drawing as an SVG data URI, or a PNG at 200 dpi where there are many points."""
        buffer = io.BytesIO()
        if raster:
            self._canvas.savefig(buffer, format="png", dpi=200, bbox_inches="tight")
            kind = "image/png"
        else:
            metadata = {"Date": None, "Creator": None}
            self._canvas.savefig(buffer, format="svg", bbox_inches="tight", metadata=metadata)
            kind = "image/svg+xml"
        data = base64.b64encode(buffer.getvalue()).decode()
        return Figure(f"data:{kind};base64,{data}", alt, caption)


@contextmanager
def drawing(height_in: float = 4.0) -> Iterator[Drawing]:
    """Opens a drawing in the house style, 5.2 inches wide: about 1:1 on a phone."""
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasAgg(canvas)
        yield Drawing(canvas, canvas.add_subplot())


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the index-th of several lines."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


def number(value: float | None) -> float:
    """The value, or NaN, which matplotlib leaves out."""
    return float("nan") if value is None else value


def say(measure: Measure) -> str:
    """The value in words for an alternative text."""
    return "no value" if measure.value is None else f"{measure.value:.3f}"
