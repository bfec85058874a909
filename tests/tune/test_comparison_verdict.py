import numpy as np
import pytest

from rayapp.tune.comparison_verdict import Pair, Verdict, verdict_over_seeds

TITLE = "ROC AUC on what was held out"


def fold(
    gain: float, seeds: int, spread: float, rng: np.random.Generator, images: int = 240
) -> Pair:
    """Two detectors whose separation differs by `gain`; training moves it by `spread`."""
    labels = np.arange(images) % 2
    noise = rng.normal(size=images)
    groups = np.array([f"photo-{at // 4}" for at in range(images)])

    def scored(separation: float) -> np.ndarray:
        means = separation + rng.normal(0, spread, seeds)
        return np.stack([noise + 0.2 * rng.normal(size=images) + labels * m for m in means])

    return Pair(labels, groups, scored(1 + gain), scored(1.0))


def test_a_large_difference_is_real_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    real = verdict_over_seeds(7, TITLE, [fold(1.0, 3, 0.05, rng)], 42, {})
    assert real.real
    assert real.line.endswith("the difference is real, the best is better")
    assert real.low < real.difference < real.high
    same = verdict_over_seeds(7, TITLE, [fold(0.0, 3, 0.05, rng)], 42, {})
    assert not same.real
    assert same.line.endswith("the difference is not shown to be real")
    worse = verdict_over_seeds(7, TITLE, [fold(-0.9, 3, 0.05, rng)], 42, {})
    assert "WORSE" in worse.line


def test_training_that_varies_widens_the_interval() -> None:
    def width(spread: float) -> float:
        found = verdict_over_seeds(
            0, TITLE, [fold(0.3, 3, spread, np.random.default_rng(1))], 42, {}
        )
        return found.high - found.low

    assert width(0.6) > 2 * width(0.0)


@pytest.mark.slow
def test_no_difference_is_called_real_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(2)
    wrong = sum(
        verdict_over_seeds(0, TITLE, [fold(0.0, 3, 0.3, rng, 80)], 42, {}).real for _ in range(120)
    )
    assert wrong <= 12  # 5 % of 120 is 6; 12 and more have a probability of about 0.01


def test_one_photograph_gives_no_interval() -> None:
    pair = fold(1.0, 3, 0.1, np.random.default_rng(3))
    one = Pair(pair.labels_N, np.full(len(pair.labels_N), "p"), pair.best_SN, pair.recipe_SN)
    found = verdict_over_seeds(0, TITLE, [one], 42, {})
    assert found.low is None
    assert "not shown to be real" in found.line


def test_of_a_loss_less_is_better() -> None:
    found = Verdict(
        best=0,
        figure="NLL",
        higher_is_better=False,
        best_values=(0.3,),
        recipe_values=(0.4,),
        difference=-0.1,
        low=-0.15,
        high=-0.05,
        resampled="40 photographs",
    )
    assert found.line.endswith("the best is better")
