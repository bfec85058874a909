import base64
import re

import numpy as np
import pytest

from rayapp.pages.blocks import Figure
from rayapp.pages.searches import (
    AxisScale,
    Trial,
    front_figure,
    history_figure,
    importance_figure,
    parallel_figure,
)


def _params(number: int) -> dict:
    found = {"lr": 10.0 ** -(number % 4), "loss": ("a", "b")[number % 2]}
    return found | ({"tau": number} if number % 2 else {})


TRIALS = [Trial(k, 0.5 + 0.01 * k, _params(k)) for k in range(30)]


def svg(figure: Figure) -> str:
    return base64.b64decode(figure.uri.partition(",")[2]).decode()


def test_the_history_says_the_best_and_what_ended_early() -> None:
    found = history_figure(TRIALS, [30, 31], [32], "ROC AUC", True, reference=0.6)
    assert "the best is 0.7900" in found.alt
    assert "2 stopped early, 1 failed" in found.alt
    assert svg(found) == svg(history_figure(TRIALS[::-1], [30, 31], [32], "ROC AUC", True, 0.6))
    down = history_figure(TRIALS, [], [], "NLL", False)
    assert "the best is 0.5000" in down.alt


def test_a_few_wild_trials_do_not_flatten_the_rest() -> None:
    wild = [*TRIALS, Trial(40, -1e6, {})]
    heights = [np.ptp(_heights(history_figure(some, [], [], "x", True))) for some in (TRIALS, wild)]
    assert heights[1] > heights[0] / 3


def _heights(figure: Figure) -> list[float]:
    """Of all that is marked by a point."""
    return [
        float(y) for y in re.findall(r'<use [^>]*y="([\d.-]+)" style="fill: #0072b2', svg(figure))
    ]


def test_importance_is_sorted() -> None:
    found = importance_figure({"a": 0.1, "b": 0.9})
    assert "b 0.90, a 0.10" in found.alt


@pytest.mark.parametrize("maximise", [True, False])
def test_parallel_coordinates_show_the_best_and_skip_what_is_not_there(maximise: bool) -> None:
    scales = [AxisScale("lr", log=True), AxisScale("loss", choices=("a", "b")), AxisScale("tau")]
    found = parallel_figure(TRIALS, scales, "value", maximise)
    best = TRIALS[-1 if maximise else 0]
    assert f"the best, {best.value:.4f}" in found.alt
    alone = parallel_figure(TRIALS[:1], scales, "value", maximise)
    assert "Values of 1 trials" in alone.alt


def test_the_front_is_named_point_by_point() -> None:
    points = [(0.1, 0.9), (0.5, 0.5), (0.2, 0.2)]
    found = front_figure(points, [0, 1], [4, 7, 9], ("x", "y"), reference=(0.3, 0.3))
    assert "trial 4 0.1000, 0.9000; trial 7 0.5000, 0.5000" in found.alt
