import pytest

from rayapp.metrics.evaluation import Comparison, Evaluation, Figure, Slice
from rayapp.report.doubts import against_chance, against_others
from rayapp.report.tables import compared


@pytest.mark.parametrize(
    ("auc", "said"),
    [
        (Figure(value=0.52, low=0.44, high=0.6), "no better than chance"),
        (Figure(value=0.5, low=0.5, high=0.5), "no better than chance"),
        (Figure(value=0.3, low=0.2, high=0.49), "below chance, scores run against the labels"),
        (Figure(value=0.6, low=0.51, high=0.7), ""),
        (Figure(value=0.52, reason="one group"), ""),
        (Figure(reason="one class"), ""),
    ],
)
def test_what_is_said_of_an_area(auc: Figure, said: str) -> None:
    assert against_chance(auc).startswith(said)
    assert bool(against_chance(auc)) == bool(said)


def part(name: str) -> Slice:
    return Slice(column="", name=name, num_real=9, num_synthetic=9, figures={})


def evaluation(name: str) -> Evaluation:
    return Evaluation(
        suite="folder",
        test_set="mine",
        detector_name=name,
        detector="-",
        annotations=(),
        scheme="demo",
        detector_hash="-",
        calibration_hash=None,
        threshold=0.5,
        band=None,
        resampled="images",
        num_groups=18,
        evidence="",
        slices=[part("all"), part("sd")],
    )


def pair(first: str, second: str, low: float, high: float, at: str = "all") -> Comparison:
    difference = Figure(value=(low + high) / 2, low=low, high=high)
    return Comparison(
        suite="folder",
        slice=at,
        figure="roc_auc",
        first=first,
        second=second,
        difference=difference,
        p_value=0.5,
        method="DeLong",
    )


PAIRS = [
    pair("A", "B", -0.01, 0.02),
    pair("A", "C", 0.1, 0.2),
    pair("D", "A", 0.1, 0.2),
    pair("A", "E", -0.01, 0.02),
    pair("B", "C", -1, 1),
    pair("A", "B", 0.1, 0.2, "sd"),
]


def test_detectors_that_cannot_be_told_apart_are_named() -> None:
    a = evaluation("A")
    assert against_others(a, part("all"), PAIRS) == (
        "On the same images A can't be told apart from B and E; it is better than C; it is worse "
        "than D."
    )
    # A mean has no test of its own: the whole set's is taken.
    assert against_others(a, part("Mean"), PAIRS) == against_others(a, part("all"), PAIRS)
    assert against_others(a, part("sd"), PAIRS) == "On the same images A is better than B."
    assert against_others(evaluation("alone"), part("all"), PAIRS) == ""
    unknown = pair("A", "B", 0, 0).model_copy(update={"difference": Figure(value=0.1)})
    assert against_others(a, part("all"), [unknown]) == ""


def test_the_table_says_which_pairs_are_told_apart() -> None:
    unknown = pair("A", "B", 0, 0).model_copy(update={"difference": Figure(value=0.1)})
    table = compared([*PAIRS[:3], unknown])
    at = list(table.columns).index("told apart")
    assert [row[at] for row in table.rows] == ["no", "yes", "yes", "–"]
