import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from rayapp.metrics.measure import Measure
from rayapp.metrics.ranking import roc_curve
from rayapp.metrics.scored import Scored
from rayapp.pages.blocks import Figure
from rayapp.pages.charts import score_histogram, slices_figure
from rayapp.pages.curves import pr_figure, roc_figure
from tests.pages.examples import all_figures, scored


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return all_figures()


def content(figure: Figure) -> bytes:
    return base64.b64decode(figure.uri.split(",")[1])


@pytest.mark.slow
def test_every_figure_is_a_picture_with_words(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        assert len(figure.alt) > 20, name
        assert "nan" not in figure.alt.lower(), name
        if figure.uri.startswith("data:image/png"):
            assert content(figure).startswith(b"\x89PNG"), name
        else:
            assert ET.fromstring(content(figure)).tag.endswith("svg"), name


@pytest.mark.slow
def test_no_legend_lies_on_what_is_drawn(figures: dict[str, Figure]) -> None:
    drawn = {name: one for name, one in figures.items() if "svg" in one.uri[:30]}
    with_legend = 0
    for name, figure in drawn.items():
        (axes,) = [g for g in ET.fromstring(content(figure)).iter() if g.get("id") == "axes_1"]
        inside = [g for g in axes.iter() if str(g.get("id")).startswith("legend")]
        assert not inside, name
        with_legend += b'id="legend_1"' in content(figure)
    assert with_legend >= 7


def test_equal_input_draws_equal_bytes() -> None:
    curve = roc_curve(scored(300))
    assert curve is not None
    assert roc_figure({"A": curve}) == roc_figure({"A": curve})


@pytest.mark.slow
def test_words_name_the_figures(figures: dict[str, Figure]) -> None:
    assert "A 0.9" in figures["roc"].alt
    assert "B: gan 0.700, sd no value" in figures["slices"].alt
    assert "70 no value" in figures["robustness"].alt
    assert "threshold 0.400" in figures["histogram"].alt


def test_a_curve_of_40000_points_stays_small_and_keeps_its_area() -> None:
    curve = roc_curve(scored(40_000))
    assert curve is not None
    figure = roc_figure({"A": curve})
    assert len(figure.uri) < 120_000
    assert f"A {np.trapezoid(curve.y_T, curve.x_T):.3f}" in figure.alt


def test_empty_and_one_sided_data_draw_without_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert "0 real, 0 synthetic" in score_histogram([], []).alt
    assert "0 real, 2 synthetic" in score_histogram([1, 1], [3.0, 4.0]).alt
    assert roc_curve(Scored.of([1], [1], [1])) is None
    slices_figure({"A": {"gan": Measure(None, reason="no items")}}, "ROC AUC")
    # Of other tests' sockets and files the collector may speak here too.
    assert not [w for w in recwarn.list if not issubclass(w.category, ResourceWarning)]


def test_a_name_with_an_underscore_or_dollars_stands_in_the_legend() -> None:
    curve = roc_curve(scored(300))
    assert curve is not None
    names = ["_mine", "a$b$", "_ray_pkg_1/detector"]
    drawn = content(pr_figure(dict.fromkeys(names, curve)))
    texts = [name for name in names if f"<!-- {name} -->".encode() in drawn]
    assert texts == names
