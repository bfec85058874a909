import io

import numpy as np
import pytest
from PIL import Image

from rayapp.images import ImageError
from rayapp.predict.score import score
from tests.detectors import tiny_detector


def encoded(height: int, width: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_bad_files_are_named_and_the_others_scored():
    files = [encoded(40, 50), b"", encoded(32, 32, 1), b"text", ImageError("can't be read: gone")]
    found = score(tiny_detector(), files, 4)
    assert [one.error for one in found] == [
        "", "empty file (0 bytes)", "", "text, not an image", "can't be read: gone",
    ]  # fmt: skip
    assert [one.logit is None for one in found] == [False, True, False, True, True]


@pytest.mark.parametrize("max_views", [1, 3, 16])
def test_logits_do_not_depend_on_the_batch(max_views: int):
    detector = tiny_detector()
    files = [encoded(32 + 7 * seed, 45, seed) for seed in range(6)]
    alone = [score(detector, [file], 1)[0].logit for file in files]
    together = [one.logit for one in score(detector, files, max_views)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_logits_are_the_detectors_own():
    detector = tiny_detector()
    files = [encoded(64, 64, seed) for seed in range(3)]
    found = [one.logit for one in score(detector, files, 8)]
    np.testing.assert_allclose(found, detector.logits(files), atol=1e-5)


def test_nothing_to_score():
    assert score(tiny_detector(), [], 4) == []
