"""Lists of own images on Ray: disjoint, whole groups, every image accounted for."""

import io
import itertools
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.annotate.settings import AnnotateSettings
from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, read_lists
from rayapp.demo.photographs import crops, shipped_photographs
from rayapp.jobs.annotate import annotate
from tests.annotate import published


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Real crops, and three generators' pictures; a copy, a look-alike, a broken file."""
    folder = tmp_path_factory.mktemp("own")
    pictures = [c.pixels_HWC for photo in shipped_photographs() for c in crops(photo, 6)]
    places = itertools.cycle(["real", "synthetic/gan a", "synthetic/sd", "synthetic/mj"])
    for at, (place, pixels) in enumerate(zip(places, pictures[:84], strict=False)):
        path = folder / place / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "real/copy.png").write_bytes((folder / "real/0.png").read_bytes())
    sink = io.BytesIO()
    Image.open(folder / "real/4.png").save(sink, "JPEG", quality=60)
    (folder / "synthetic/sd/alike.jpg").write_bytes(sink.getvalue())
    (folder / "real/broken.png").write_bytes(b"\x89PNG")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/x.png").write_bytes((folder / "real/0.png").read_bytes())
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.ray
def test_every_image_is_in_one_list_and_groups_are_whole(own, tmp_path):
    run = annotate(AnnotateSettings(input=str(own), output=str(tmp_path), hold_out=("mj",)))
    scheme = load_scheme(str(tmp_path / "scheme.yaml"))
    names = ("train", "head", "calibration", "test")
    lists = dict(
        zip(
            names,
            read_lists([str(tmp_path / f"lists/{n}.txt") for n in names], scheme),
            strict=True,
        )
    )
    where = {}
    for name, one in lists.items():
        for item in one.items:
            assert where.setdefault(item.path, name) == name
    assert len(where) == 86
    assert run.counts["in"] == 88
    assert run.counts["failed"] == 2
    assert run.counts["groups"] == 84
    assert any(line.startswith("real/broken.png: ") for line in run.results["misses"])
    assert any(line.startswith("elsewhere/x.png: of no pattern") for line in run.results["misses"])
    assert where["real/0.png"] == where["real/copy.png"]
    assert where["real/4.png"] == where["synthetic/sd/alike.jpg"]
    held = [path for path in where if path.startswith("synthetic/mj/")]
    assert len(held) == 21
    assert {where[path] for path in held} == {"test"}
    of_sd = read_lists([str(tmp_path / "lists/test-gan-a.txt")], scheme)[0].items
    assert {item.path.rpartition("/")[0] for item in of_sd} == {"real", "synthetic/gan a"}
    table = pq.read_table(tmp_path / "manifest.parquet")
    splits = dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert {path: name for path, name in splits.items() if name} == where


@pytest.mark.drill
def test_the_same_images_make_the_same_lists(own, tmp_path):
    for name in ("a", "b"):
        annotate(AnnotateSettings(input=str(own), output=str(tmp_path / name)))
    for path in (tmp_path / "a/lists").iterdir():
        assert path.read_bytes() == (tmp_path / "b/lists" / path.name).read_bytes()
    annotate(AnnotateSettings(input=str(own), output=str(tmp_path / "c"), seed=1))
    assert (tmp_path / "c/lists/train.txt").read_bytes() != (
        tmp_path / "a/lists/train.txt"
    ).read_bytes()


@pytest.mark.drill
def test_a_table_gives_the_labels(own, tmp_path):
    lines = ["path,origin,generator,content,group"]
    for path in sorted(own.glob("*/**/*.png"))[:-1]:
        key = path.relative_to(own)
        if path.name not in {"broken.png", "x.png"}:
            origin = "real" if key.parts[0] == "real" else "fake"
            lines.append(f"{key},{origin},{'' if origin == 'real' else 'model'},things,")
    (own / "table.csv").write_text("\n".join(lines) + "\n")
    run = annotate(AnnotateSettings(input=str(own / "table.csv"), output=str(tmp_path)))
    scheme = load_scheme(str(tmp_path / "scheme.yaml"))
    assert list(scheme.columns) == ["origin", "content", "generator"]
    assert run.counts["failed"] == 0


@pytest.mark.ray
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hold_out": ("x",)}, r"--hold-out x: no such generator \(known: gan a, mj, sd\)"),
        ({"layout": "photos=real,synthetic/GENERATOR"}, "finds no real image"),
        ({"group_by": ("folder",)}, "is left without real images"),
        ({"split": "1/2"}, "four shares are wanted"),
    ],
)
def test_what_cannot_be_dealt_is_named(own, tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        annotate(AnnotateSettings(input=str(own), output=str(tmp_path), **more))


def test_generators_of_one_list_name_are_refused(own, tmp_path):
    shutil.copytree(own / "synthetic/gan a", own / "synthetic/gan-a")
    with pytest.raises(UserError, match="'gan a' and 'gan-a' would share one test list"):
        annotate(AnnotateSettings(input=str(own), output=str(tmp_path)))


def test_a_file_name_that_is_not_utf8_is_named(own, tmp_path):
    Path(os.fsdecode(os.fsencode(str(own / "real")) + b"/bad\xff.png")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"bad\\udcff\.png: a file name that is not UTF-8"):
        annotate(AnnotateSettings(input=str(own), output=str(tmp_path)))


def lists_of(folder, *names):
    """Paths by list."""
    scheme = load_scheme(str(folder / "scheme.yaml"))
    return {
        name: {
            item.path for item in read_lists([str(folder / f"lists/{name}.txt")], scheme)[0].items
        }
        for name in names
    }


@pytest.mark.ray
def test_a_published_split_is_kept_and_its_leaks_are_named(tmp_path):
    own = published.cifake(tmp_path / "own")
    twin = own / "train/REAL/twin.jpg"
    twin.write_bytes((own / "test/REAL/000.jpg").read_bytes())
    alike = own / "test/FAKE/alike.png"
    Image.open(own / "train/FAKE/003.jpg").save(alike)
    run = annotate(AnnotateSettings(input=str(own), output=str(tmp_path / "a")))
    lists = lists_of(tmp_path / "a", "train", "head", "calibration", "test")
    assert lists["test"] == {str(path.relative_to(own)) for path in own.glob("test/*/*")}
    trained = lists["train"] | lists["head"]
    assert trained | lists["calibration"] == {
        str(path.relative_to(own)) for path in own.glob("train/*/*")
    }
    # What would be refused by calibrate is trained on, where the published split has it.
    assert {"train/REAL/twin.jpg", "train/FAKE/003.jpg"} <= trained
    assert sorted(run.results["leaks"]) == [
        "test/FAKE/alike.png has the look of train/FAKE/003.jpg",
        "test/REAL/000.jpg has the bytes of train/REAL/twin.jpg",
    ]
    assert run.counts["leaks"] == 2
    assert run.counts["failed"] == 0
    assert run.results["by_folder"]["test"] == {"test": 17}
    assert set(run.results["by_folder"]["train"]) == {"train", "head", "calibration"}

    run = annotate(
        AnnotateSettings(input=str(own), output=str(tmp_path / "b"), split_by_folder=False)
    )
    lists = lists_of(tmp_path / "b", "train", "head", "calibration", "test")
    assert any(path.startswith("test/") for path in lists["train"])
    assert "by_folder" not in run.results


@pytest.mark.ray
def test_equal_bytes_under_both_labels_are_named_and_kept_out(tmp_path):
    own = published.forensynths(tmp_path / "own")
    real, copy = "biggan/0_real/000.png", "stargan/0_real/copy.png"
    twin = "progan/car/1_fake/twin.png"
    for path in (copy, twin):
        (own / path).write_bytes((own / real).read_bytes())
    settings = AnnotateSettings(input=str(own), output=str(tmp_path / "out"))
    run = annotate(settings)
    assert sorted(run.results["misses"]) == sorted(
        f"{path}: has the bytes of {other}, which is labelled {origin}: one label is wrong"
        for path, other, origin in [
            (real, twin, "synthetic"),
            (copy, twin, "synthetic"),
            (twin, real, "real"),
        ]
    )
    assert run.counts["failed"] == 3
    lists = lists_of(tmp_path / "out", "train", "head", "calibration", "test")
    listed = set().union(*lists.values())
    assert len(listed) == run.counts["in"] - 3 == 59
    assert not listed & {real, copy, twin}
    table = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    assert {row["path"] for row in table if row["status"] == "failed"} == {real, copy, twin}
    again = annotate(settings)
    assert (again.counts, again.results) == (run.counts, run.results)


@pytest.mark.ray
def test_a_held_out_generator_of_a_published_split_is_only_tested_on(tmp_path):
    own = published.genimage(tmp_path / "own")
    run = annotate(AnnotateSettings(input=str(own), output=str(tmp_path / "a"), hold_out=("ADM",)))
    lists = lists_of(tmp_path / "a", "train", "head", "calibration", "test")
    assert lists["test"] == {str(path.relative_to(own)) for path in own.glob("*/val/*/*")}
    for name in ("train", "head", "calibration"):
        assert not any(path.startswith("ADM/train/ai") for path in lists[name])
    assert run.counts["left out"] == 11
    assert run.results["by_folder"]["train"]["left out"] == 11
