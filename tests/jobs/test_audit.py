"""The audit on Ray finds what was planted, and nothing in a sound set."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.audit.settings import AuditSettings
from rayapp.demo.photographs import crops, shipped_photographs
from rayapp.jobs.audit import audit
from rayapp.jobs.reconstruct import reconstruct
from rayapp.reconstruct.settings import ReconstructSettings


@pytest.fixture(scope="module")
def pictures():
    """Different crops of 256 px."""
    photographs = shipped_photographs()
    return [crop.pixels_HWC for photo in photographs for crop in crops(photo, 3)][:36]


def save(path, pixels, kind="PNG", **options):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sink.getvalue())


def lay_out(folder, pictures, kinds=("PNG", "PNG")):
    """Three lists of a dozen pictures each, half of them called synthetic."""
    for number, name in enumerate(("train", "calibration", "test")):
        lines = []
        for at, pixels in enumerate(pictures[number * 12 : number * 12 + 12]):
            origin = at % 2
            path = f"{name}/{at}"
            save(folder / path, pixels, kinds[origin])
            lines.append(f"{path},{origin},0,{0 if origin else 4},{0 if origin else 4}\n")
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


def run(folder, *names, **more):
    done = audit(
        AuditSettings(
            annotations=tuple(str(folder / f"{name}.txt") for name in names),
            root=str(folder),
            output=str(folder / "audit"),
            scheme="demo",
            **more,
        )
    )
    facts = json.loads((folder / "audit/audit.json").read_text())
    return done, facts, (folder / "audit/audit.html").read_text()


@pytest.mark.ray
def test_a_sound_set_has_nothing_wrong(tmp_path, pictures):
    folder = lay_out(tmp_path, pictures)
    done, facts, page = run(folder, "train", "calibration", "test")
    assert [one["text"] for one in facts["findings"] if one["wrong"]] == []
    assert done.counts["decoded"] == 36
    assert "Nothing is wrong" in page
    table = pq.read_table(folder / "audit/manifest.parquet")
    assert table["perceptual_hash"].null_count == 0
    assert set(table["group"].to_pylist()) == set(table["id"].to_pylist())


@pytest.mark.ray
def test_what_was_planted_is_found(tmp_path, pictures):
    folder = lay_out(tmp_path, pictures)
    (folder / "test/same").write_bytes((folder / "train/0").read_bytes())
    save(folder / "test/near", pictures[14][2:-2, 2:-2], "JPEG", quality=70)  # calibration's 2
    save(folder / "test/other", pictures[24], "JPEG", quality=80)  # test's real 0
    (folder / "test/both").write_bytes((folder / "test/1").read_bytes())  # 1 is synthetic
    (folder / "test/broken").write_bytes((folder / "train/1").read_bytes()[:900])
    with (folder / "test.txt").open("a") as file:
        file.write(
            "test/same,0,0,4,4\ntest/near,0,0,4,4\ntest/other,1,0,0,0\ntest/both,0,0,4,4\n"
            "test/broken,0,0,4,4\ntest/gone,0,0,4,4\ntrain/2,0,0,4,4\n"
        )
    done, facts, page = run(folder, "train", "calibration", "test")
    kinds = {}
    for one in facts["findings"]:
        kinds.setdefault(one["kind"], []).append(one["text"])
    assert "1 of 12 images of train.txt (train) are in the test lists" in kinds["leak"]
    assert "test/gone: no such file" in kinds["missing"][0]
    assert "test/broken" in kinds["broken"][0]
    across = {(p["one"], p["other"], p["how"]) for p in facts["copies"]["across"]}
    assert across == {("train/0", "test/same", "sha256"), ("calibration/2", "test/near", "near")}
    assert {(p["one"], p["other"]) for p in facts["copies"]["other_origin"]} == {
        ("test/0", "test/other")
    }
    assert kinds["contradiction"] == [
        "equal bytes are labelled real and synthetic (1 pair): one label of each is wrong; "
        "test/both = test/1"
    ]
    assert {one["kind"]: one["wrong"] for one in facts["findings"]}["contradiction"]
    assert "Equal bytes labelled real and synthetic" in page
    assert ["test/same", "train/0"] in facts["copies"]["same_bytes"]
    assert done.counts["failed"] == 2
    assert page.count("data:image/jpeg") >= 6
    again = run(folder, "train", "calibration", "test")[0]
    assert again.state == "done"


@pytest.mark.drill
def test_formats_that_tell_origin_alarm(tmp_path, pictures):
    folder = lay_out(tmp_path, pictures, kinds=("JPEG", "PNG"))
    _, facts, page = run(folder, "train", "calibration", "test")
    alarmed = {one["feature"] for one in facts["shortcuts"] if (one["auc"]["low"] or 0) > 0.6}
    assert "container" in alarmed
    assert "dimensions" not in alarmed
    assert "container alone tells origin" in page


@pytest.mark.drill
def test_equal_pictures_without_a_look_are_one_group(tmp_path):
    flat = np.full((64, 64, 3), 200, np.uint8)
    for name in ("a", "b"):
        save(tmp_path / name, flat)
    (tmp_path / "x.txt").write_text("a,0,0,4,4\nb,0,0,4,4\n")
    run(tmp_path, "x")
    table = pq.read_table(tmp_path / "audit/manifest.parquet")
    assert table["group"].to_pylist() == ["a", "a"]
    assert table["perceptual_hash"].to_pylist() == [None, None]


def test_of_intended_pairs_nothing_is_said_and_of_a_stray_beside_one_it_is(tmp_path, pictures):
    for at, pixels in enumerate(pictures[:4]):
        save(tmp_path / f"in/{at}.png", pixels[:128, :128])
    (tmp_path / "same.py").write_text(
        "def reconstruct(images):\n    return [one // 2 * 2 for one in images]\n"
    )
    reconstruct(
        ReconstructSettings(
            root=str(tmp_path / "in"),
            autoencoder=str(tmp_path / "same.py"),
            output=str(tmp_path / "pairs"),
        )
    )

    def audited(name, *more):
        listed = (tmp_path / "pairs/lists/pairs.txt").read_text()
        (tmp_path / f"{name}.txt").write_text(listed + "".join(more))
        done = audit(
            AuditSettings(
                annotations=(str(tmp_path / f"{name}.txt"),),
                root=str(tmp_path / "pairs"),
                scheme=str(tmp_path / "pairs/scheme.yaml"),
                output=str(tmp_path / f"audit-{name}"),
            )
        )
        copies = json.loads((tmp_path / f"audit-{name}/audit.json").read_text())["copies"]
        alike = [one for one in done.results["findings"] if one["kind"] == "alike"]
        return copies, alike

    copies, alike = audited("pairs")
    assert copies["other_origin"] == alike == []
    assert copies["look_like_another"] == 0
    save(tmp_path / "pairs/stray.png", pictures[0][:128, :128] // 4 * 4)
    copies, alike = audited("more", "stray.png,1,1\n")
    assert [one["other"] for one in copies["other_origin"]] == ["stray.png"]
    assert copies["look_like_another"] == 3
    assert "1 real images look like a synthetic one" in alike[0]["text"]
