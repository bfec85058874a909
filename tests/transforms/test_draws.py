import hashlib

import numpy as np

from rayapp.transforms.draws import Dice, generator


def test_golden_draws():
    """A change here re-draws every data set ever made: it needs a reason and a version."""
    rng = generator(42, "imaginet-test", "photos/real/coco/00001.jpg")
    assert rng.integers(0, 1_000_000, 4).tolist() == [986475, 187352, 502564, 485017]
    assert rng.random(2).tolist() == [0.8480109951909938, 0.5460023954221273]
    later = generator(7, "imaginet-train", "é/x.png#2", epoch=3)
    assert later.integers(0, 1_000_000, 4).tolist() == [364535, 175916, 151015, 765877]


def test_key_is_the_digest_of_the_four_parts():
    digest = hashlib.sha256(b"1\x00p\x00\xc3\xa9\x002").digest()
    key = sum(byte << (8 * position) for position, byte in enumerate(digest[:16]))
    words = [key & (2**64 - 1), key >> 64]
    reference = np.random.Generator(np.random.Philox(key=words))
    assert generator(1, "p", "é", 2).bytes(32) == reference.bytes(32)


def test_each_part_of_the_key_counts():
    streams = {
        generator(*parts).bytes(16)
        for parts in [
            (1, "p", "i", 0),
            (2, "p", "i", 0),
            (1, "q", "i", 0),
            (1, "p", "j", 0),
            (1, "p", "i", 1),
            (1, "pi", "", 0),
        ]
    }
    assert len(streams) == 6


def test_certain_draws_need_no_generator():
    dice = Dice(1, "p", "i")
    assert dice.integer(5, 5) == 5
    assert dice.uniform(2.5, 2.5) == 2.5
    assert dice.chance(1.0)
    assert "_rng" not in vars(dice)


def test_draws_reach_both_ends():
    dice = Dice(1, "p", "i")
    assert {dice.integer(0, 2) for _ in range(200)} == {0, 1, 2}
    assert 0.2 < np.mean([dice.chance(0.3) for _ in range(1000)]) < 0.4
