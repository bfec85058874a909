import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.config.errors import JobFailed
from rayapp.tune.goals import FIGURES, Goal, front


def test_one_objective_is_the_figure_itself() -> None:
    goal = Goal({"nll": 3.0})
    assert (goal.names, goal.maximise) == (("nll",), (False,))
    assert goal.values({"nll": 0.4, "brier": 1.0}) == (0.4,)
    assert goal.better([0.3], [0.4])


def test_a_weighted_sum_is_large_where_all_is_well() -> None:
    goal = Goal({"held_out_roc_auc": 1.0, "nll": 0.5})
    assert (goal.names, goal.maximise) == (("weighted",), (True,))
    assert goal.values({"held_out_roc_auc": 0.9, "nll": 0.4}) == pytest.approx((0.7,))


def test_several_at_once_keep_their_directions() -> None:
    goal = Goal({"held_out_roc_auc": 1.0, "nll": 1.0, "images_per_s": 1.0}, pareto=True)
    assert goal.maximise == (True, False, True)
    assert goal.values({"images_per_s": 9, "nll": 1, "held_out_roc_auc": 0.5}) == (0.5, 1, 9)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_figure_that_is_none_is_a_reason(value: float | None) -> None:
    with pytest.raises(JobFailed, match=r"nll is (missing|nan|inf)"):
        Goal({"nll": 1.0}).values({"nll": value})


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_none_beats(points: list[tuple[int, int]]) -> None:
    found = front(points, (True, False))
    beaten = {
        at
        for at, (x, y) in enumerate(points)
        if any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)
    }
    assert set(found) == set(range(len(points))) - beaten
    assert found


def test_every_figure_says_what_it_is() -> None:
    assert all(kind.title and kind.kinds for kind in FIGURES.values())
