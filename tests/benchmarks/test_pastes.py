"""benchmarks/pastes.py: a trained detector passes the paste test, random weights do not."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.evidence import fit_head
from benchmarks.pastes import QUALITY, Kept, OverSeeds, map_aucs, of_random_weights
from rayapp.models.detector import Detector
from rayapp.transforms.operations import jpeg, resize
from tests.detectors import tiny_detector
from tests.pictures import photographed

SIDE = 64
PASSES = 0.75


def photograph(seed: int) -> np.ndarray:
    return photographed(SIDE, SIDE, seed)


def generated(seed: int) -> np.ndarray:
    """A picture that was enlarged, as the last step of a generator enlarges."""
    return resize(photographed(SIDE // 2, SIDE // 2, seed), SIDE, SIDE, "lanczos4")


def trained() -> Detector:
    """Its head, on tiles of pictures that are in no paste."""
    detector = tiny_detector()
    sees_tiles = detector.seen_as("tiles")
    views, origins = [], []
    for origin, make in enumerate((photograph, generated)):
        for seed in range(100, 116):
            views.append(sees_tiles.preprocess(jpeg(make(seed), QUALITY, "rgb")))
            origins += [float(origin)] * len(views[-1])
    with torch.inference_mode():
        features = detector.network.features(torch.cat(views)).numpy()
    fit_head(detector, torch.from_numpy(features), torch.tensor(origins))
    return detector


PAIRS = [(photograph(seed), generated(50 + seed)) for seed in range(3)]


def test_a_trained_detector_passes_and_random_weights_fail(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "test")
    assert map_aucs(trained(), PAIRS, "trained", kept).mean() >= PASSES
    random = of_random_weights((tiny_detector(seed) for seed in range(1, 25)), PAIRS, kept)
    assert random.at_chance
    assert random.high < PASSES
    assert random.deviation > 0  # each is another network


def test_a_uniform_score_has_a_uniform_map(tmp_path: Path) -> None:
    uniform = tiny_detector()
    nn.init.zeros_(uniform.network.head.output.weight)
    assert np.ptp(uniform.evidence(PAIRS[0][0]).logits_G) == 0
    assert map_aucs(uniform, PAIRS, "uniform", Kept(tmp_path, "test")).tolist() == [0.5] * 3


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    first, never = Kept(tmp_path, "a"), []
    made = first.array("key", lambda: np.arange(3, dtype=np.float32))
    again = first.array("key", lambda: never[0])
    np.testing.assert_array_equal(again, made)
    other = Kept(tmp_path, "b").array("key", lambda: np.zeros(1, np.float32))
    assert len(other) == 1


def test_the_interval_is_over_networks() -> None:
    found = OverSeeds.of([0.3, 0.5, 0.7])
    assert found.mean == 0.5
    assert found.deviation == np.std([0.3, 0.5, 0.7], ddof=1)
    reach = 4.302653 * 0.2 / 3**0.5  # Student's t of 2 degrees of freedom
    np.testing.assert_allclose([found.low, found.high], [0.5 - reach, 0.5 + reach], atol=1e-6)
    assert found.at_chance
    assert not OverSeeds.of([0.69, 0.7, 0.71]).at_chance
