from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme
from rayapp.metrics.ranking import roc_auc
from rayapp.tune.trials.figures import (
    Judged,
    calibration_figures,
    cross_fitted,
    halves,
    held_out_auc,
    over_folds,
    ranking_figures,
)

SCHEME = load_scheme("demo")


def choice(**fields) -> CalibrateSettings:
    return CalibrateSettings(detector="-", scores="-", annotations="-", output="-", **fields)


@pytest.fixture(scope="module")
def judged() -> Judged:
    """600 images: reals, generators 0 and 1 (seen), and 2, which is held out and harder."""
    rng = np.random.default_rng(3)
    generator = np.tile([4, 4, 0, 1, 2, 4], 100)
    origin = (generator != 4).astype(np.int64)
    shift = np.array([3.0, 2.0, 0.8, 0.0, 0.0])[generator]
    logits = 3 * (rng.normal(shift, 1.0) - 1)
    codes = {
        "origin": origin,
        "content": np.arange(600) % 2,
        "generator": generator,
        "model": generator,
    }
    groups = np.array([f"photo-{at // 12}" for at in range(600)])
    return Judged(codes, logits, groups, generator != 2, ("bilinear + convolution",))


def test_the_held_out_generator_is_judged_against_the_reals(judged: Judged) -> None:
    figures, slices = ranking_figures(judged, SCHEME)
    chosen = np.isin(judged.codes["generator"], [2, 4])
    expected = roc_auc(judged.labels_N[chosen], judged.logits_N[chosen]).value
    assert figures["held_out_roc_auc"] == expected
    assert figures["worst_slice_roc_auc"] == min(slices.values()) <= expected
    assert slices["training: held-out"] == expected
    assert slices["generator: transposed convolution"] > expected
    noisy = judged.logits_N + np.random.default_rng(0).normal(0, 30, 600)
    assert held_out_auc(judged, noisy) < expected


def test_a_source_of_reals_that_is_held_out_is_judged_against_all_synthetics(
    judged: Judged,
) -> None:
    held = (judged.labels_N == 0) & (np.arange(len(judged.labels_N)) % 3 == 0)
    figures, _ = ranking_figures(
        Judged(judged.codes, judged.logits_N, judged.groups_N, ~held), SCHEME
    )
    chosen = held | (judged.labels_N == 1)
    expected = roc_auc(judged.labels_N[chosen], judged.logits_N[chosen]).value
    assert figures["held_out_roc_auc"] == expected


def test_calibration_is_fitted_to_the_other_half(judged: Judged) -> None:
    half = halves(judged.groups_N, judged.labels_N, judged.fit_N)
    assert 200 < half.sum() < 400
    for group in set(judged.groups_N):
        assert len(set(half[judged.groups_N == group])) == 1
    before = cross_fitted(judged, choice())[0]
    # Turning the labels of one half round changes the probabilities of the other half alone.
    turned = judged.codes | {"origin": np.where(half, 1 - judged.labels_N, judged.labels_N)}
    after = cross_fitted(Judged(turned, judged.logits_N, judged.groups_N, judged.fit_N), choice())[
        0
    ]
    assert np.array_equal(before[half], after[half])
    assert not np.allclose(before[~half], after[~half])


def test_what_is_held_out_is_not_fitted_to(judged: Judged) -> None:
    moved = np.where(judged.fit_N, judged.logits_N, 50.0)
    before = cross_fitted(judged, choice())[0]
    after = cross_fitted(Judged(judged.codes, moved, judged.groups_N, judged.fit_N), choice())[0]
    assert np.array_equal(before[judged.fit_N], after[judged.fit_N])


def test_a_given_temperature_is_taken_as_it_is(judged: Judged) -> None:
    probabilities, _, _ = cross_fitted(judged, choice(method="temperature", temperature=4.0))
    assert np.allclose(probabilities, special.expit(judged.logits_N / 4))


def test_a_better_fit_has_better_figures(judged: Judged) -> None:
    good = calibration_figures(judged, choice(), SCHEME)
    bad = calibration_figures(judged, choice(method="temperature", temperature=0.2), SCHEME)
    for name in ("nll", "brier", "calibration_error", "worst_slice_nll"):
        assert good[name] < bad[name]
    assert good["worst_slice_nll"] > good["nll"]


def test_a_stricter_band_answers_less_and_better(judged: Judged) -> None:
    strict = calibration_figures(judged, choice(band_error=0.01), SCHEME)
    lax = calibration_figures(judged, choice(band_error=0.2), SCHEME)
    assert strict["answered"] < lax["answered"]
    assert strict["answered_error"] < lax["answered_error"]


def test_accuracy_is_that_at_the_threshold_that_the_rate_asks_for(judged: Judged) -> None:
    plain = calibration_figures(judged, choice(), SCHEME)
    probabilities, _, called = cross_fitted(judged, choice())
    labels = judged.labels_N
    assert np.array_equal(called, probabilities >= 0.5)
    recalls = [(called[labels == k] == k).mean() for k in (0, 1)]
    assert plain["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    alone = replace(judged, groups_N=np.arange(600).astype(np.str_))
    strict = cross_fitted(alone, choice(fpr=0.05))[2]
    assert strict[labels == 0].mean() < 0.05 < called[labels == 0].mean()
    with pytest.raises(UserError, match="at least 59 independent"):
        cross_fitted(judged, choice(fpr=0.05))  # 25 photographs a half
    with pytest.raises(UserError, match="of each content; missing"):
        cross_fitted(alone, choice(fpr=0.03, fpr_by="content"))
    with pytest.raises(UserError, match="fpr_by camera: a search knows the columns origin"):
        cross_fitted(alone, choice(fpr=0.03, fpr_by="camera"))


def test_a_prevalence_does_not_move_the_figures_of_a_search(judged: Judged) -> None:
    shifted = calibration_figures(judged, choice(prevalence=0.01), SCHEME)
    assert shifted == calibration_figures(judged, choice(), SCHEME)


def test_one_photograph_is_dealt_out_by_image(judged: Judged) -> None:
    one = np.full(600, "photo")
    half = halves(one, judged.labels_N, judged.fit_N)
    for side in (half, ~half):
        assert set(judged.labels_N[side & judged.fit_N]) == {0, 1}


def test_a_search_of_calibration_hears_why_a_fit_fails() -> None:
    labels = np.tile([0, 1], 40)
    codes = {"origin": labels, "content": labels * 0}
    groups = np.arange(80).astype(np.str_)
    wrong = Judged(codes, -3.0 * labels + 1, groups, np.ones(80, dtype=bool))
    with pytest.raises(UserError, match="run against the labels"):
        calibration_figures(wrong, choice(method="temperature"), SCHEME)


def test_folds_are_averaged_and_the_worst_stays_the_worst() -> None:
    folds = [
        {"held_out_roc_auc": 0.9, "worst_slice_roc_auc": 0.8, "worst_slice_nll": 0.3, "nll": None},
        {"held_out_roc_auc": 0.7, "worst_slice_roc_auc": 0.6, "worst_slice_nll": 0.5, "nll": 1.0},
    ]
    assert over_folds(folds) == pytest.approx(
        {"held_out_roc_auc": 0.8, "worst_slice_roc_auc": 0.6, "worst_slice_nll": 0.5, "nll": None}
    )
