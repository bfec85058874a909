import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.models.folder import load_detector, save_detector
from rayapp.models.fusion import DISAGREE, Fusion, FusionPart
from rayapp.predict.score import FusedScorer, make_scorer
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector
from tests.fuse.fused import fused

WEIGHTS = [(2.0, 0.5, 0.7), (1.5, -0.25, 0.2)]


def _pictures() -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [draws.integers(0, 256, (40 + n, 50, 3), dtype=np.uint8) for n in range(5)]


def test_the_fused_logit_is_the_weighted_sum_of_the_parts() -> None:
    parts = [tiny_detector(0), tiny_detector(1, size=40)]
    whole = fused(parts, WEIGHTS, bias=0.3)
    expected = 0.3 + sum(
        w * (slope * part.logits(_pictures()).astype(float) + shift)
        for part, (slope, shift, w) in zip(parts, WEIGHTS, strict=True)
    )
    np.testing.assert_allclose(whole.logits(_pictures()), expected, atol=1e-6)
    scorer = make_scorer(whole, bf16=False)
    assert isinstance(scorer, FusedScorer)
    scored = scorer.score([scorer.see(image) for image in _pictures()])
    np.testing.assert_allclose([one[0] for one in scored], expected, atol=1e-5)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    whole = fused([tiny_detector(0), tiny_detector(1, size=40)], WEIGHTS)
    digest = save_detector(whole, open_store(tmp_path / "f"))
    loaded = load_detector(tmp_path / "f")
    assert loaded.hash() == digest
    np.testing.assert_array_equal(loaded.logits(_pictures()), whole.logits(_pictures()))
    assert [part.hash() for part in loaded.parts] == [part.hash() for part in whole.parts]
    assert len(loaded.judge(_pictures())) == 5


@pytest.mark.parametrize("key", ["weight", "bias", "view"])
def test_whatever_decides_is_part_of_the_hash(key: str) -> None:
    parts = [tiny_detector(0), tiny_detector(1)]
    other = list(WEIGHTS)
    if key == "weight":
        other[0] = (2.0, 0.5, 0.71)
    changed = [parts[0], tiny_detector(1, size=40)] if key == "view" else parts
    one, two = fused(parts, WEIGHTS), fused(changed, other, bias=0.1 if key == "bias" else 0.0)
    assert one.hash() != two.hash()


def test_another_detector_in_the_place_of_a_part_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    save_detector(fused([tiny_detector(0), tiny_detector(1)], WEIGHTS), store)
    weights = store.get("model.safetensors")
    save_detector(fused([tiny_detector(0), tiny_detector(2)], WEIGHTS), store)
    store.put("model.safetensors", weights)
    with pytest.raises(UserError, match=r"part 1: is another detector .* fuse again"):
        load_detector(tmp_path)


def test_a_changed_weight_of_the_fusion_is_refused(tmp_path: Path) -> None:
    save_detector(fused([tiny_detector(0), tiny_detector(1)], WEIGHTS), open_store(tmp_path))
    file = tmp_path / "detector.json"
    data = json.loads(file.read_text())
    data["fusion"]["parts"][0]["weight"] = 0.9
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match="was changed after saving"):
        load_detector(tmp_path)


def test_a_view_cannot_be_laid_over_the_parts() -> None:
    whole = fused([tiny_detector(0), tiny_detector(1)], WEIGHTS)
    assert whole.seen_as(None) is whole
    with pytest.raises(UserError, match="view of its own"):
        whole.seen_as("five")
    with pytest.raises(UserError, match="no features"):
        whole.features(_pictures())


def test_what_cannot_be_read_is_named_and_harms_no_other(tmp_path: Path) -> None:
    whole = fused([tiny_detector(0), tiny_detector(1)], WEIGHTS)
    Image.fromarray(_pictures()[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"none")
    judged = whole.judge([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "a.png"])
    assert [bool(one.error) for one in judged] == [False, True, False]
    assert judged[0].probability == judged[2].probability
    with pytest.raises(UserError, match="image 1 "):
        whole.logits([tmp_path / "a.png", tmp_path / "b.png"])


def test_parts_disagree_by_their_own_probabilities() -> None:
    part = {"detector_hash": "x", "spec": {}, "shift": 0.0, "weight": 0.5}
    parts = tuple(FusionPart(name=n, slope=s, **part) for n, s in (("a", 1.0), ("b", 2.0)))
    fusion = Fusion(method="mean", parts=parts, disagree_above=0.8)
    logits = [[3, 2], [3, -2], [3, 0], [-9, 9]]
    assert fusion.reasons(logits) == ["", DISAGREE, "", DISAGREE]
    never = fusion.model_copy(update={"disagree_above": None})
    assert never.reasons(logits) == [""] * 4
