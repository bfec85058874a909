import numpy as np
import pytest
from sklearn import metrics as sk

from rayapp.metrics.binary import evaluate
from rayapp.metrics.ranking import pr_curve, roc_auc, roc_curve
from rayapp.metrics.scored import Scored


def tied(seed: int, num: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Random labels and scores on a grid of 40 values, so that most scores are tied."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.3).astype(int)
    return labels, np.round(rng.normal(labels, 1) * 8) / 8


def scored(labels: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored.of(labels, scores, 1 / (1 + np.exp(-scores)))


@pytest.mark.parametrize("seed", range(5))
def test_ranking_figures_equal_scikit_learn_with_ties(seed: int) -> None:
    labels, scores = tied(seed)
    ours = evaluate(scored(labels, scores))
    assert ours["roc_auc"].value == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    precision = sk.average_precision_score(labels, scores)
    assert ours["average_precision"].value == pytest.approx(precision, abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    assert ours["tpr_at_fpr_1pct"].value == pytest.approx(tpr[fpr <= 0.01].max(), abs=1e-12)
    assert ours["tpr_at_fpr_5pct"].value == pytest.approx(tpr[fpr <= 0.05].max(), abs=1e-12)
    eer = ours["eer"].value
    assert eer is not None
    assert np.interp(eer, fpr, tpr) == pytest.approx(1 - eer, abs=1e-12)


def test_curves_equal_scikit_learn() -> None:
    labels, scores = tied(9)
    roc, pr = roc_curve(scored(labels, scores)), pr_curve(scored(labels, scores))
    assert roc is not None
    assert pr is not None
    fpr, tpr, thresholds = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.x_T, fpr, atol=1e-12)
    np.testing.assert_allclose(roc.y_T, tpr, atol=1e-12)
    np.testing.assert_array_equal(roc.threshold_T, thresholds)
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(pr.x_T, recall[::-1], atol=1e-12)
    np.testing.assert_allclose(pr.y_T, precision[::-1], atol=1e-12)


def test_all_scores_tied_is_chance() -> None:
    ours = evaluate(scored(np.array([0, 1, 0, 1]), np.zeros(4)))
    assert ours["roc_auc"].value == 0.5
    assert ours["eer"].value == 0.5
    assert ours["tpr_at_fpr_5pct"].value == 0.0


def test_perfect_and_inverted_order() -> None:
    labels = np.array([0, 0, 1, 1])
    assert evaluate(scored(labels, np.array([-2.0, -1, 1, 2])))["eer"].value == 0.0
    assert roc_auc(labels, np.array([-2.0, -1, 1, 2])).value == 1.0
    assert evaluate(scored(labels, np.array([2.0, 1, -1, -2])))["eer"].value == 1.0
    assert roc_auc(labels, np.array([2.0, 1, -1, -2])).value == 0.0


def test_missing_class_has_no_curve() -> None:
    assert roc_curve(scored(np.ones(3), np.arange(3.0))) is None
    assert pr_curve(scored(np.zeros(3), np.arange(3.0))) is None
    assert "0 real, 3 synthetic" in roc_auc(np.ones(3), np.arange(3.0)).reason
