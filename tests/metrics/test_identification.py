import numpy as np
import pytest
from sklearn import metrics as sk

from rayapp.metrics.identification import identify, identify_with_intervals


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


def test_intervals_hold_the_value_and_follow_the_seed() -> None:
    rng = np.random.default_rng(1)
    classes = np.repeat([0, 1, 2], 60)
    p = rng.dirichlet(np.ones(3), 180) + np.eye(3)[classes] * 0.3
    drawn = [
        identify_with_intervals(
            classes, p, np.random.Generator(np.random.Philox(key=seed)), num_resamples=150
        )
        for seed in (0, 0, 1)
    ]
    plain = identify(classes, p)
    for one, same in (
        (drawn[0].accuracy, plain.accuracy),
        (drawn[0].macro_auc, plain.macro_auc),
        *zip(drawn[0].recalls, plain.recalls, strict=True),
        *zip(drawn[0].aucs, plain.aucs, strict=True),
    ):
        assert one.value == same.value
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high  # type: ignore[operator]
    assert drawn[0].accuracy == drawn[1].accuracy != drawn[2].accuracy
    # Theory: a recall of n items has the standard error of a share.
    recall = drawn[0].recalls[0]
    half = 1.96 * np.sqrt(recall.value * (1 - recall.value) / 60)  # type: ignore[operator]
    assert (recall.high - recall.low) / 2 == pytest.approx(half, rel=0.25)  # type: ignore[operator]


def test_one_item_of_a_class_has_no_interval() -> None:
    draws = np.random.Generator(np.random.Philox(key=0))
    assert identify_with_intervals([0, 1, 1], np.eye(2)[[0, 1, 0]], draws).accuracy.low is None
