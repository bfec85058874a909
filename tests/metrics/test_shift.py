"""Shifts between counts: rare where there is none, found where planted, mixtures allowed."""

import numpy as np
import pytest
from scipy import stats

from rayapp.metrics.shift import ALPHA, LEAST_EFFECT, Shift, compare_counts, corrected
from rayapp.metrics.traffic import EDGES, NUM_BINS


def counts(logits: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(EDGES, logits, side="right"), minlength=NUM_BINS)


def reals(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.normal(-2, 1.5, num)


def synthetics(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.normal(2, 2, num)


def day(rng: np.random.Generator, num: int, share: float, up: float = 0.0) -> np.ndarray:
    num_synthetic = round(num * share)
    return up + np.r_[reals(rng, num - num_synthetic), synthetics(rng, num_synthetic)]


def test_p_values_of_no_shift_are_even() -> None:
    """Whether the reference is one class or two in another share: at most α of them below α."""
    rng = np.random.default_rng(0)
    for classes in (1, 2):
        p = []
        for seed in range(120):
            if classes == 1:
                reference = counts(day(rng, 600, 0.3))[None]
            else:
                reference = np.stack([counts(reals(rng, 300)), counts(synthetics(rng, 300))])
            traffic = counts(day(rng, 500, 0.3))
            p.append(compare_counts("x", traffic, reference, seed, ordered=True).p_value)
        assert 0.35 < np.mean(p) < 0.68
        assert np.mean(np.array(p) <= 0.1) < 0.2
        assert np.mean(np.array(p) <= ALPHA) < 0.05


def test_another_share_of_synthetic_images_is_no_shift_against_classes() -> None:
    rng = np.random.default_rng(1)
    reference = np.stack([counts(reals(rng, 1000)), counts(synthetics(rng, 1000))])
    for share in (0.02, 0.3, 0.9):
        found = compare_counts("x", counts(day(rng, 1000, share)), reference, ordered=True)
        assert not found.found
        assert found.share_synthetic == pytest.approx(share, abs=0.05)
    as_one = reference.sum(axis=0)[None]  # without classes it is one
    assert compare_counts("x", counts(day(rng, 1000, 0.02)), as_one, ordered=True).found


def test_a_shift_is_found_and_its_size_is_the_largest_distance() -> None:
    rng = np.random.default_rng(2)
    reference = np.stack([counts(reals(rng, 1000)), counts(synthetics(rng, 1000))])
    moved = compare_counts("x", counts(day(rng, 1000, 0.1, up=1.0)), reference, ordered=True)
    assert moved.found
    apart = compare_counts("x", np.array([0, 0, 5]), np.array([[5, 5, 0]]), ordered=True)
    assert apart.effect == 1
    words = compare_counts("x", np.array([50, 50]), np.array([[80, 20]]), ordered=False)
    assert words.effect == pytest.approx(0.3)
    assert words.share_synthetic is None


def test_a_shift_that_moves_scores_to_the_middle_is_found() -> None:
    """The largest distance alone takes it for chance: it goes up here and down there."""
    rng = np.random.default_rng(0)
    before, today = rng.normal(0, 2, 1500), rng.normal(0, 1.7, 1000)
    found = compare_counts("x", counts(today), counts(before)[None], ordered=True)
    assert stats.ks_2samp(today, before).pvalue > 0.1
    assert found.p_value < 0.01
    assert found.found


def test_a_rare_word_that_is_new_is_more_than_chance() -> None:
    """Ten of a thousand are as many as chance moves between two frequent words, and none of it."""
    among = compare_counts("x", np.array([500, 500]), np.array([[510, 490]]), ordered=False)
    new = compare_counts("x", np.array([495, 495, 10]), np.array([[500, 500, 0]]), ordered=False)
    assert among.effect == pytest.approx(new.effect)
    assert among.p_value > 0.5
    assert new.p_value < 0.01


def test_the_same_seed_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    given = counts(day(rng, 300, 0.5)), counts(day(rng, 300, 0.3))[None]
    assert compare_counts("x", *given, 7, ordered=True) == compare_counts(
        "x", *given, 7, ordered=True
    )


@pytest.mark.parametrize("reference", [[[0, 0]], [[1, 1], [0, 0]], [[1, 1], [1, 1], [1, 1]]])
def test_nothing_to_compare_is_refused(reference: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="none of them empty"):
        compare_counts("x", np.array([1, 1]), np.array(reference), ordered=True)


def test_p_values_are_corrected_for_all_comparisons() -> None:
    given = [Shift("a", 1, 1, 0.2, 0.004), Shift("b", 1, 1, 0.2, 0.002), Shift("c", 1, 1, 0.2, 0.5)]
    found = corrected(given)
    assert [one.p_value for one in found] == pytest.approx([0.008, 0.006, 0.5])
    assert [one.found for one in found] == [True, True, False]
    small = Shift("d", 1, 1, LEAST_EFFECT / 2, 0.0001)  # certain, and of no account
    assert not corrected([small])[0].found
