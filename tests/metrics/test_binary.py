import numpy as np
import pytest
from sklearn import metrics as sk

from rayapp.metrics.binary import FIGURES, evaluate
from rayapp.metrics.scored import Scored


def draw(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num)
    scores = np.round(rng.normal(2 * labels - 1, 1.5), 2)
    return labels, scores, 1 / (1 + np.exp(-scores))


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_figures_equal_scikit_learn(threshold: float) -> None:
    labels, scores, p = draw(5000)
    ours = evaluate(Scored.of(labels, scores, p), threshold)
    called = (p >= threshold).astype(int)
    expected = {
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "accuracy_real": sk.recall_score(labels, called, pos_label=0),
        "accuracy_synthetic": sk.recall_score(labels, called),
        "nll": sk.log_loss(labels, p),
        "brier": sk.brier_score_loss(labels, p),
    }
    for name, value in expected.items():
        assert ours[name].value == pytest.approx(value, abs=1e-12), name


def test_missing_class_is_named_and_never_nan() -> None:
    labels, scores, p = draw(100)
    for label, named in ((0, "0 synthetic"), (1, "0 real")):
        chosen = labels == label
        ours = evaluate(Scored.of(labels[chosen], scores[chosen], p[chosen]))
        for name in ("balanced_accuracy", "roc_auc", "average_precision", "eer", "tpr_at_fpr_1pct"):
            assert ours[name].value is None
            assert named in ours[name].reason
        assert ours["accuracy_synthetic" if label == 0 else "accuracy_real"].value is None
        assert ours["nll"].value is not None
        assert all(m.value is None or np.isfinite(m.value) for m in ours.values())


def test_one_item_and_no_item() -> None:
    one = evaluate(Scored.of([1], [0.3], [0.7]))
    assert one["accuracy_synthetic"].value == 1.0
    assert one["brier"].value == pytest.approx(0.09)
    assert one["calibration_error"].reason == "needs 20 items, has 1"
    assert {m.reason for m in evaluate(Scored.of([], [], [])).values()} == {"no items"}


@pytest.mark.slow
def test_a_million_rows_equal_scikit_learn() -> None:
    labels, scores, p = draw(1_000_000)
    whole = evaluate(Scored.of(labels, scores, p))
    assert set(whole) == set(FIGURES)
    called = (p >= 0.5).astype(int)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    expected = {
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "roc_auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "tpr_at_fpr_1pct": tpr[fpr <= 0.01].max(),
        "tpr_at_fpr_5pct": tpr[fpr <= 0.05].max(),
        "nll": sk.log_loss(labels, p),
        "brier": sk.brier_score_loss(labels, p),
    }
    for name, value in expected.items():
        assert whole[name].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(
    ("labels", "scores", "p", "message"),
    [
        ([0, 1], [0.0], [0.5, 0.5], "different lengths"),
        ([0, 2], [0.0, 1.0], [0.5, 0.5], "0 .real. or 1"),
        ([0, 1], [0.0, np.nan], [0.5, 0.5], "finite"),
        ([0, 1], [0.0, 1.0], [0.5, np.nan], r"\[0, 1\]"),
    ],
)
def test_bad_columns_are_refused(labels: list, scores: list, p: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scored.of(labels, scores, p)
