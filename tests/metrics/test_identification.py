import numpy as np
import pytest
from sklearn import metrics as sk

from rayapp.metrics.identification import identify


def test_equal_to_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 500)
    p = np.round(rng.dirichlet(np.ones(4), 500) + np.eye(4)[classes] * 0.4, 2)
    p /= p.sum(axis=1, keepdims=True)
    ours, called = identify(classes, p), p.argmax(axis=1)
    assert ours.accuracy.value == pytest.approx(sk.accuracy_score(classes, called), abs=1e-12)
    balanced = sk.balanced_accuracy_score(classes, called)
    assert ours.balanced_accuracy.value == pytest.approx(balanced, abs=1e-12)
    auc = sk.roc_auc_score(classes, p, multi_class="ovr")
    assert ours.macro_auc.value == pytest.approx(auc, abs=1e-12)
    np.testing.assert_array_equal(ours.confusion_KK, sk.confusion_matrix(classes, called))


def test_missing_class_is_named() -> None:
    ours = identify([0, 1, 1], np.eye(3)[[0, 1, 0]])
    assert ours.macro_auc.value is None
    assert ours.macro_auc.reason == "no AUC for class 2"
    assert ours.recalls[2].reason == "no items"
    assert ours.balanced_accuracy.value == 0.75
    assert identify([], np.zeros((0, 3))).accuracy.reason == "no items"


def test_class_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="must fit"):
        identify([3], np.ones((1, 3)))
