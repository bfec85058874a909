import numpy as np
import pytest

from rayapp.metrics.measure import Measure
from rayapp.metrics.slices import cross_source_auc, macro, spread


def test_macro_mean_and_worst_leave_out_and_name_what_has_no_value() -> None:
    slices = {"gan": Measure(0.9), "sd": Measure(0.7), "empty": Measure(None, reason="no items")}
    result = macro(slices)
    assert result.mean.value == pytest.approx(0.8)
    assert (result.worst_slice, result.worst.value) == ("sd", 0.7)
    assert result.left_out == ("empty",)
    assert macro(slices, lower_is_better=True).worst_slice == "gan"
    assert macro({}).mean.reason == "no slice has a value"


def test_cross_source_pairs_show_a_shift_that_pooling_hides() -> None:
    labels = np.array([0, 0, 1, 1])
    sources = np.array(["photos", "paintings", "gan", "sd"])
    result = cross_source_auc(labels, np.array([0.0, 2.0, 1.0, 3.0]), sources)
    assert result["photos", "gan"].value == 1
    assert result["paintings", "gan"].value == 0
    assert len(result) == 4


def test_spread_over_runs() -> None:
    result = spread([0.8, 0.9])
    assert result.mean == pytest.approx(0.85)
    assert result.std == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert spread([0.8]).std is None
    with pytest.raises(ValueError, match="no runs"):
        spread([])
