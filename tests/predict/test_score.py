import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from rayapp.dataset.images import decode
from rayapp.models.detector import Detector, DetectorSpec, build_network
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.predict.bf16_check import TOLERANCE, check_bf16, chosen
from rayapp.predict.score import NetworkScorer
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(height: int, width: int, seed: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels(height, width, seed)).save(sink, "PNG")
    return sink.getvalue()


def under(detector: Detector, view: str) -> Detector:
    seen = detector.spec.preprocessing.model_copy(update={"view": view})
    spec = DetectorSpec(**{**dict(detector.spec), "preprocessing": seen})
    return Detector(detector.network, spec)


@pytest.mark.parametrize("view", ["centre", "five", "tiles", "resize"])
@pytest.mark.parametrize("at_once", [1, 3, None])
def test_logits_are_the_detectors_own_in_batches_of_any_size(view: str, at_once: int | None):
    detector = under(tiny_detector(), view)
    images = [pixels(32 + 7 * seed, 45, seed) for seed in range(6)]
    scorer = NetworkScorer(detector, bf16=False, at_once=at_once)
    found = [one for (one,) in scorer.score([scorer.see(image) for image in images])]
    np.testing.assert_allclose(found, detector.logits(images), atol=1e-5)


def test_bf16_stays_near_and_is_measured(tmp_path):
    detector = tiny_detector()
    for seed in range(8):
        (tmp_path / f"{seed}.png").write_bytes(encoded(64, 64, seed))
    images = chosen(pa.table({"path": [f"{seed}.png" for seed in range(8)]}))
    assert [row["path"] for row in images] == ["0.png", "2.png", "4.png", "6.png"]
    gone = {"path": "gone.png"}
    harm = check_bf16(detector, open_store(tmp_path), [*images, gone])
    assert harm.num_images == 4
    assert 0 < harm.largest < TOLERANCE
    assert harm.harmless
    assert not check_bf16(detector, open_store(tmp_path), [gone]).harmless


def test_views_at_once_follow_the_memory_of_one():
    small, large = tiny_detector(size=32), tiny_detector(size=512)
    assert NetworkScorer(small, bf16=False).at_once == 64
    assert NetworkScorer(large, bf16=False).at_once < 16


def test_decoding_is_the_same_for_arrays_and_files():
    assert np.array_equal(decode(encoded(40, 30, 1)).pixels_HWC, pixels(40, 30, 1))


def test_a_vit_takes_a_few_images_at_once_on_a_cpu() -> None:
    """Beyond what the caches hold, layers on tokens only lose."""
    architecture = Architecture(
        backbone="vit_small_patch16_224", options={"depth": 1}, head=HeadSettings(hidden=0)
    )
    network = build_network(architecture).eval()
    strides = network.encoder.backbone.strides()
    seen = Preprocessing(view="resize", size=224)
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    assert 8 <= NetworkScorer(Detector(network, spec), bf16=False).at_once <= 32
