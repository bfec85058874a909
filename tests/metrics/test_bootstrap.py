import time

import numpy as np
import pytest

from rayapp.metrics.binary import evaluate
from rayapp.metrics.bootstrap import (
    compare_figures,
    evaluate_with_intervals,
    group_strata,
    macro_with_intervals,
)
from rayapp.metrics.scored import Scored


def philox(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def normal_scores(rng: np.random.Generator, num: int, gap: float = 1.5) -> Scored:
    labels = np.arange(num) % 2
    scores = rng.normal(gap * labels, 1)
    return Scored.of(labels, scores, sigmoid(gap * (scores - gap / 2)))


def test_intervals_are_seeded_and_hold_the_value() -> None:
    scored = normal_scores(np.random.default_rng(0), 400)
    first = evaluate_with_intervals(scored, philox(), num_resamples=200)
    assert first == evaluate_with_intervals(scored, philox(), num_resamples=200)
    assert first != evaluate_with_intervals(scored, philox(1), num_resamples=200)
    plain = evaluate(scored)
    for name, measure in first.items():
        assert measure.value == plain[name].value
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < measure.value < measure.high, name


def test_width_equals_theory_for_a_share() -> None:
    rng = np.random.default_rng(0)
    labels = np.ones(1000, dtype=int)
    scored = Scored.of(labels, rng.random(1000), (rng.random(1000) < 0.8) * 1.0)
    measure = evaluate_with_intervals(scored, philox())["accuracy_synthetic"]
    assert measure.value is not None
    expected = 1.96 * np.sqrt(measure.value * (1 - measure.value) / 1000)
    assert measure.high is not None
    assert measure.low is not None
    assert (measure.high - measure.low) / 2 == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_intervals_cover_the_true_auc_and_a_true_calibration_error_of_zero() -> None:
    rng = np.random.default_rng(3)
    true_auc, repeats = 0.8555778, 40  # Φ(1.5 / √2)
    auc_hits = error_hits = 0
    for repeat in range(repeats):
        scored = normal_scores(rng, 600)
        ours = evaluate_with_intervals(scored, philox(repeat), num_resamples=150)
        auc, error = ours["roc_auc"], ours["calibration_error"]
        auc_hits += auc.low is not None and auc.low <= true_auc <= (auc.high or 0)
        error_hits += error.low is not None and error.low <= 0 <= (error.high or 0)
    assert auc_hits / repeats > 0.85
    assert error_hits / repeats > 0.85


def test_groups_widen_the_interval_of_repeated_items() -> None:
    """Ten copies of each photograph are worth one photograph, not ten."""
    once = normal_scores(np.random.default_rng(4), 200)
    columns = [np.repeat(c, 10) for c in (once.labels_N, once.scores_N, once.probabilities_N)]
    photographs = np.repeat([f"photo{i}" for i in range(200)], 10)
    widths = {}
    for name, scored in {
        "once": once,
        "grouped": Scored.of(*columns, photographs),
        "as if independent": Scored.of(*columns),
    }.items():
        auc = evaluate_with_intervals(scored, philox(), num_resamples=400)["roc_auc"]
        assert auc.low is not None
        assert auc.high is not None
        widths[name] = auc.high - auc.low
    assert widths["grouped"] == pytest.approx(widths["once"], rel=0.15)
    assert widths["as if independent"] < 0.5 * widths["once"]


def test_strata_by_class_of_the_group() -> None:
    codes, labels = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 0])
    assert [s.tolist() for s in group_strata(codes, 4, labels)] == [[0, 3], [2], [1]]


def test_no_interval_has_its_reason() -> None:
    lonely = evaluate_with_intervals(Scored.of([0, 0, 1], [0, 1, 2], [0.1, 0.2, 0.9]), philox())
    assert lonely["roc_auc"].low is None
    assert lonely["roc_auc"].value == 1
    assert "one group" in lonely["roc_auc"].reason
    perfect = Scored.of([0] * 9 + [1] * 9, range(18), np.arange(18) / 18)
    measure = evaluate_with_intervals(perfect, philox())["roc_auc"]
    assert measure.value == 1
    assert measure.low is None
    assert "agree" in measure.reason
    assert "one group" in evaluate_with_intervals(Scored.of([1], [1], [1]), philox())["nll"].reason


@pytest.mark.slow
def test_a_thousand_resamples_of_40000_rows_within_15_s() -> None:
    scored = normal_scores(np.random.default_rng(0), 40_000)
    start = time.process_time()
    evaluate_with_intervals(scored, philox(), num_resamples=50)
    assert (time.process_time() - start) * 20 < 15


def test_paired_bootstrap_finds_a_planted_difference_and_no_other() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(2000) % 2
    shared = rng.normal(size=2000)
    good, bad, twin = (
        gap * labels + 0.9 * shared + 0.44 * rng.normal(size=2000) for gap in (2.0, 1.6, 2.0)
    )
    better = compare_figures(
        labels, (good, sigmoid(good)), (bad, sigmoid(bad)), philox(), num_resamples=300
    )["roc_auc"]
    assert better.value is not None
    assert better.low is not None
    assert better.p_value is not None
    assert better.low > 0
    assert better.p_value < 0.01
    same = compare_figures(
        labels, (good, sigmoid(good)), (twin, sigmoid(twin)), philox(), num_resamples=300
    )
    p_value = same["roc_auc"].p_value
    assert p_value is not None
    assert p_value > 0.01
    assert "calibration_error" not in same


def test_order_of_rows_does_not_change_a_grouped_comparison() -> None:
    rng = np.random.default_rng(6)
    labels = np.arange(300) % 2
    a, b = rng.normal(labels, 1), rng.normal(labels, 1)
    groups = np.array([f"{i // 3:03d}" for i in range(300)])
    order = rng.permutation(300)
    first = compare_figures(labels, (a, sigmoid(a)), (b, sigmoid(b)), philox(), groups)
    again = compare_figures(
        labels[order],
        (a[order], sigmoid(a[order])),
        (b[order], sigmoid(b[order])),
        philox(),
        groups[order],
    )
    assert first == again


def grouped(rng: np.random.Generator, gap: float, reals: np.ndarray) -> Scored:
    scores = np.concatenate([reals, rng.normal(gap, 1, 60)])
    labels = np.repeat([0, 1], [len(reals), 60])
    names = [f"real {k}" for k in range(len(reals))] + [f"{gap} {k}" for k in range(60)]
    return Scored.of(labels, scores, sigmoid(scores), names)


def test_mean_over_slices_has_an_interval_that_knows_of_shared_reals() -> None:
    rng = np.random.default_rng(7)
    reals = rng.normal(0, 1, 60)
    slices = {str(gap): grouped(rng, gap, reals) for gap in (1.0, 1.5, 2.0)}
    found = macro_with_intervals(slices, philox(), num_resamples=300)
    values = [evaluate(one)["accuracy_real"].value for one in slices.values()]
    assert found["accuracy_real"].value == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    # The same reals in each slice: their accuracy varies as in one slice, not as in three.
    alone = evaluate_with_intervals(slices["1.0"], philox(), num_resamples=300)["accuracy_real"]
    mean = found["accuracy_real"]
    assert alone.low is not None
    assert alone.high is not None
    assert mean.low is not None
    assert mean.high is not None
    assert mean.high - mean.low == pytest.approx(alone.high - alone.low, rel=0.2)
    assert found["calibration_error"].low is None


def test_mean_leaves_out_and_names_a_slice_without_a_value() -> None:
    rng = np.random.default_rng(8)
    whole = grouped(rng, 1.5, rng.normal(0, 1, 30))
    reals = Scored.of([0, 0], [0.1, 0.2], [0.5, 0.5], ["a", "b"])
    found = macro_with_intervals({"whole": whole, "reals": reals}, philox(), num_resamples=100)
    assert found["roc_auc"].value == evaluate(whole)["roc_auc"].value
    assert found["roc_auc"].low is not None
