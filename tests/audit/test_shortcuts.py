import numpy as np
import pyarrow as pa

from rayapp.audit.findings import of_the_shortcuts
from rayapp.audit.shortcuts import features, shortcuts


def draw(count=2000, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.integers(0, 2, count)


def test_a_planted_shortcut_is_found_and_noise_is_not():
    rng, synthetic = draw()
    planted = ["png" if (s if rng.random() < 0.9 else 1 - s) else "jpg" for s in synthetic]
    noise = [str(v) for v in rng.integers(0, 500, len(synthetic))]
    groups = [str(at) for at in range(len(synthetic))]
    found = {one.feature: one for one in shortcuts({"a": planted, "b": noise}, synthetic, groups)}
    assert 0.88 < found["a"].auc.value < 0.92
    assert found["a"].alarms
    assert found["a"].auc.low < 0.9 < found["a"].auc.high
    assert not found["b"].alarms
    assert abs(found["b"].auc.value - 0.5) < 0.05  # many values, yet nothing is learnt by heart
    assert found["all together"].alarms
    assert found["a"].telling[0].startswith(("jpg: ", "png: "))


def test_copies_do_not_vouch_for_each_other():
    """Each value belongs to one group: across groups nothing can be learnt."""
    _, of_group = draw(200)
    synthetic = np.repeat(of_group, 10)
    groups = [str(at // 10) for at in range(len(synthetic))]
    (honest,) = shortcuts({"a": groups}, synthetic, groups)
    (fooled,) = shortcuts({"a": groups}, synthetic, [str(at) for at in range(len(synthetic))])
    assert not honest.alarms
    assert fooled.alarms


def test_one_value_only_tells_nothing():
    _, synthetic = draw(100)
    (one,) = shortcuts({"a": ["x"] * 100}, synthetic, [str(at) for at in range(100)])
    assert one.auc.value == 0.5


def test_features_of_files_and_of_lists_alone():
    assert features(pa.table({"path": ["a/b.JPG", "c"]})) == {"file suffix": [".jpg", "none"]}
    table = pa.table(
        {
            "path": ["a.jpg", "b.png"],
            "container": ["JPEG", "PNG"],
            "quality": [90, None],
            "tables": ["abc", None],
            "width": [10, 20],
            "height": [10, 10],
            "bytes": [100, 100],
            "metadata": ["EXIF", ""],
            "declared": ["camera", "nothing"],
            "subsampling": ["4:2:0", None],
            "brightness": [90.0, 120.0],
            "chroma": [3.0, 3.0],
            "noise": [1.5, 0.5],
        }
    )
    found = features(table)
    assert found["quality table"] == ["quality 90", "none"]
    assert found["dimensions"] == ["10×10", "20×10"]
    assert found["metadata"] == ["EXIF", "none"]
    assert found["declared"] == ["camera", "nothing"]
    assert found["subsampling"] == ["4:2:0", "none"]
    assert found["chroma"] == ["3 levels", "3 levels"]
    assert len(set(found["noise level"])) == 2
    assert found["file size"] == ["100 bytes", "100 bytes"]
    assert len(set(found["bytes a pixel"])) == 2


def test_what_the_pixels_tell_is_a_remark_and_no_part_of_the_outside():
    rng, synthetic = draw()
    planted = [str(one) for one in synthetic]
    chance = [str(one) for one in rng.integers(0, 2, len(synthetic))]
    given = {"noise level": planted, "container": chance, "metadata": chance}
    groups = [str(at) for at in range(len(synthetic))]
    found = {one.feature: one for one in shortcuts(given, synthetic, groups)}
    assert found["noise level"].alarms
    assert not found["all together"].alarms
    (remark,) = of_the_shortcuts(list(found.values()))
    assert not remark.wrong
    assert remark.text.startswith("noise level alone tells origin with a ROC AUC of 1.000")
