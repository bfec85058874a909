import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from rayapp.dataset.images import decode
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.models.preprocessing import cut_views, seen_part
from rayapp.predict.bf16_check import TOLERANCE, check_bf16, chosen
from rayapp.predict.score import FusedScorer, NetworkScorer, make_scorer
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector
from tests.fuse.fused import fused
from tests.pictures import photographed, saved


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


@pytest.mark.parametrize("filter", [None, "bicubic"])
@pytest.mark.parametrize("shape", [(91, 64), (64, 91), (20, 133), (133, 20), (20, 20), (31, 33)])
def test_what_it_looks_at_is_all_that_it_needs(shape: tuple[int, int], filter: str | None) -> None:
    image = pixels(*shape)
    for view, size in (("centre", 32), ("centre", 31), ("five", 32), ("tiles", 32), ("resize", 32)):
        seen = Preprocessing(size=size, view=view, filter=filter)
        top, left, bottom, right = seen_part(shape, seen)
        part = image[top:bottom, left:right]
        np.testing.assert_array_equal(cut_views(part, seen), cut_views(image, seen))
        if view == "centre":
            assert part.size <= 3 * size**2


def test_parts_of_a_fusion_see_what_each_alone_sees_of_the_whole() -> None:
    views = [("centre", 32), ("centre", 41), ("centre", 32), ("resize", 32)]
    for chosen_views in (views[:3], views):
        parts = [under(tiny_detector(at, size=size), view) for at, (view, size) in
                 enumerate(chosen_views)]  # fmt: skip
        scorer = make_scorer(fused(parts, [(1.0, 0.0, 1 / len(parts))] * len(parts)), bf16=False)
        assert isinstance(scorer, FusedScorer)
        for shape in ((77, 90), (35, 200), (20, 20), (34, 43)):
            image = pixels(*shape)
            top, left, bottom, right = scorer.looks_at(shape)
            found = scorer.see(image[top:bottom, left:right], shape)
            for part, one in zip(scorer.parts, found.views, strict=True):
                np.testing.assert_array_equal(one, part.see(image))
            assert found.views[0] is found.views[2]  # cut once


def test_a_worker_scores_a_photograph_by_its_part_as_by_its_whole(tmp_path: Path) -> None:
    """The rows below the centre are not decoded; what is told of the file is the same."""
    picture = photographed(420, 300)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "a.jpg").write_bytes(saved(Image.fromarray(picture), "JPEG", exif=exif))
    (tmp_path / "cut.jpg").write_bytes(saved(Image.fromarray(picture), "JPEG")[:-400])
    detector = tiny_detector(size=64)
    save_detector(detector, open_store(tmp_path / "d"))
    work = PredictRows(ScorerSpec(str(tmp_path / "d")), open_store(tmp_path), 1)
    work.setup()
    whole, cut = work.batch([{"id": name, "path": name} for name in ("a.jpg", "cut.jpg")])
    image = decode((tmp_path / "a.jpg").read_bytes())
    assert whole["logit"] == pytest.approx(detector.logits([image.pixels_HWC])[0], abs=1e-6)
    assert (whole["height"], whole["width"], whole["orientation"]) == (300, 420, 6)
    assert cut["status"] == "failed"
    assert "truncated" in cut["error"]
