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
    lists = dict(zip(names, read_lists([str(tmp_path / f"lists/{n}.txt") for n in names], scheme),
                     strict=True))  # fmt: skip
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
