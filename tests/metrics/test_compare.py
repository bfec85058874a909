import numpy as np
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score

from rayapp.metrics.bootstrap import compare_figures
from rayapp.metrics.compare import compare_auc, compare_balanced_accuracy


def pair(
    rng: np.random.Generator, num: int, aucs: tuple[float, float], correlation: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two detectors' normal scores with the given true AUCs, correlated in a class."""
    labels = np.arange(num) % 2
    cut = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    noise = rng.normal(size=(num, 2)) @ cut.T
    gaps = np.sqrt(2) * special.ndtri(aucs)
    scores = labels[:, None] * gaps + noise
    return labels, scores[:, 0], scores[:, 1]


def test_a_planted_difference_is_found() -> None:
    found = compare_auc(*pair(np.random.default_rng(7), 5000, (0.90, 0.88)))
    assert found.p_value is not None
    assert found.p_value < 0.05


@pytest.mark.slow
def test_planted_difference_is_found_in_90_of_100() -> None:
    rng = np.random.default_rng(0)
    found = [compare_auc(*pair(rng, 5000, (0.90, 0.88))).p_value for _ in range(100)]
    assert sum(p is not None and p < 0.05 for p in found) >= 90


@pytest.mark.slow
def test_null_is_rejected_at_its_level() -> None:
    rng = np.random.default_rng(1)
    found = [compare_auc(*pair(rng, 300, (0.88, 0.88))).p_value for _ in range(400)]
    assert 0.02 <= np.mean([p is not None and p < 0.05 for p in found]) <= 0.08


@pytest.mark.slow
def test_null_is_rejected_at_its_level_on_5000_items() -> None:
    rng = np.random.default_rng(6)
    found = [compare_auc(*pair(rng, 5000, (0.88, 0.88))).p_value for _ in range(1000)]
    assert 0.03 <= np.mean([p is not None and p < 0.05 for p in found]) <= 0.07


@pytest.mark.slow
def test_grouped_null_is_rejected_at_its_level_and_ungrouped_is_not() -> None:
    """Five crops of a photograph move together: only the grouped test knows."""
    rng = np.random.default_rng(2)
    rejected = np.zeros(2)
    for _ in range(200):
        labels, a, b = pair(rng, 200, (0.85, 0.85))
        noise = 0.2 * rng.normal(size=(2, 1000))
        columns = [np.repeat(labels, 5), np.repeat(a, 5) + noise[0], np.repeat(b, 5) + noise[1]]
        groups = np.repeat(np.arange(200), 5)
        for k, result in enumerate([compare_auc(*columns, groups), compare_auc(*columns)]):
            rejected[k] += result.p_value is not None and result.p_value < 0.05
    assert rejected[0] / 200 <= 0.1
    assert rejected[1] / 200 >= 0.2


def test_groups_of_both_classes_agree_with_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    scene = np.repeat(rng.normal(size=(150, 2)), 6, axis=0)
    labels, a, b = pair(rng, 900, (0.85, 0.80))
    a, b = a + scene[:, 0], b + scene[:, 1]
    groups = np.repeat(np.arange(150), 6)
    exact = compare_auc(labels, a, b, groups)
    drawn = compare_figures(
        labels,
        (a, special.expit(a)),
        (b, special.expit(b)),
        np.random.Generator(np.random.Philox(key=0)),
        groups,
    )["roc_auc"]
    assert exact.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b))
    assert drawn.value == pytest.approx(exact.value, abs=1e-12)
    assert exact.high is not None
    assert exact.low is not None
    assert drawn.high is not None
    assert drawn.low is not None
    assert drawn.high - drawn.low == pytest.approx(exact.high - exact.low, rel=0.12)


@pytest.mark.parametrize("grouped", [True, False])
def test_balanced_accuracy_agrees_with_the_bootstrap(grouped: bool) -> None:
    rng = np.random.default_rng(8)
    scene = np.repeat(rng.normal(size=(300, 2)), 4, axis=0)
    labels, a, b = pair(rng, 1200, (0.85, 0.80))
    a, b = a + 0.5 * scene[:, 0] - 0.6, b + 0.5 * scene[:, 1] - 0.6
    groups = np.repeat(np.arange(300), 4) if grouped else None
    right = [(scores >= 0) == (labels == 1) for scores in (a, b)]
    exact = compare_balanced_accuracy(labels, *right, groups)
    drawn = compare_figures(
        labels,
        (a, special.expit(a)),
        (b, special.expit(b)),
        np.random.Generator(np.random.Philox(key=0)),
        groups,
    )["balanced_accuracy"]
    assert exact.value == pytest.approx(drawn.value, abs=1e-12)
    assert exact.low is not None
    assert exact.high is not None
    assert drawn.low is not None
    assert drawn.high is not None
    assert exact.high - exact.low == pytest.approx(drawn.high - drawn.low, rel=0.12)
    assert "needs both classes" in compare_balanced_accuracy(np.ones(3), *([1, 0, 1],) * 2).reason


def test_single_item_groups_are_delong() -> None:
    labels, a, b = pair(np.random.default_rng(4), 300, (0.9, 0.8))
    plain, grouped = compare_auc(labels, a, b), compare_auc(labels, a, b, np.arange(300))
    assert plain.p_value == pytest.approx(grouped.p_value, rel=1e-12)
    # By definition: sample covariances of the placements of each class (DeLong 1988, eq. 3-5).
    pos, neg = labels == 1, labels == 0
    wins = [(s[pos][:, None] > s[neg]) + 0.5 * (s[pos][:, None] == s[neg]) for s in (a, b)]
    delta = wins[0] - wins[1]
    variance = delta.mean(1).var(ddof=1) / pos.sum() + delta.mean(0).var(ddof=1) / neg.sum()
    assert plain.high is not None
    assert plain.value is not None
    assert (plain.high - plain.value) / 1.959963984540054 == pytest.approx(np.sqrt(variance))


def test_no_test_has_its_reason() -> None:
    labels = np.array([0, 0, 1, 1])
    same = compare_auc(labels, labels, labels)
    assert same.value == 0
    assert same.p_value == 1
    assert "needs both classes" in compare_auc(np.ones(3), np.arange(3), np.arange(3)).reason
    assert "two groups" in compare_auc(labels, [0, 1, 2, 3], [1, 0, 2, 3], [0, 0, 1, 1]).reason


@pytest.mark.slow
def test_paired_bootstrap_null_is_rejected_at_its_level() -> None:
    rng = np.random.default_rng(5)
    rejected = 0
    for repeat in range(1000):
        labels, a, b = pair(rng, 400, (0.88, 0.88))
        result = compare_figures(
            labels,
            (a, special.expit(a)),
            (b, special.expit(b)),
            np.random.Generator(np.random.Philox(key=repeat)),
            num_resamples=400,
        )["roc_auc"]
        rejected += result.p_value is not None and result.p_value < 0.05
    assert 0.03 <= rejected / 1000 <= 0.07
