import pytest

from rayapp.metrics.evaluation import Comparison, Evaluation, Figure, Slice, Worst
from rayapp.report.doubts import against_chance, against_others, to_expect
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


def expected(figures: dict[str, Figure], **more: Worst) -> str:
    whole = part("all").model_copy(update={"figures": figures, "num_real": 1200})
    changed = {"slices": [whole], "worst": more}
    return to_expect(evaluation("mine").model_copy(update=changed)).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def test_what_to_expect_is_said_in_words() -> None:
    figures = {
        "roc_auc": Figure(value=0.52, low=0.44, high=0.6),
        "false_positive_rate": Figure(value=0.291, low=0.22, high=0.37),
        "accuracy_synthetic": Figure(value=0.31),
    }
    worst = Worst(name="Sana", figure=Figure(value=0.3))
    assert expected(figures, roc_auc=worst) == (
        "What to expect of mine on such images: ROC AUC 0.520 (95 % interval 0.440 to 0.600), no "
        "better than chance, 0.300 on Sana, where it is worst; at its threshold 0.5 it calls 29 % "
        "of 1,200 real images synthetic (95 % interval 22 % to 37 %) and finds 31 % of 9 synthetic "
        "ones."
    )


def test_a_single_slice_is_not_called_the_worst() -> None:
    same = Worst(name="taesd", figure=Figure(value=0.7))
    assert expected({"roc_auc": Figure(value=0.7)}, roc_auc=same) == (
        "What to expect of mine on such images: ROC AUC 0.700."
    )


def test_of_one_class_only_what_it_shows_is_said() -> None:
    figures = {
        "roc_auc": Figure(reason="one class"),
        "false_positive_rate": Figure(value=0.0),
        "accuracy_synthetic": Figure(reason="no synthetic image"),
    }
    assert expected(figures) == (
        "What to expect of mine on such images: at its threshold 0.5 it calls 0 % of 1,200 real "
        "images synthetic."
    )
