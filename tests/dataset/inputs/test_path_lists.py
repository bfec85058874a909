"""Lists, tables, archives: what people have their paths and images in, as real files."""

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset import members
from rayapp.dataset.images import decode
from rayapp.dataset.inputs.listed_inputs import Inputs, resolve, with_repeats, without_repeats
from rayapp.storage.uris import open_store


def picture(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, 0, 0)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, name in enumerate(("a.png", "b c.png", "deep/c,1.png", "deep/é.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(picture(shade))
    return tmp_path


def shades(inputs: Inputs) -> dict[str, int]:
    """The red of each image by its id, read as a worker reads it."""
    rows = inputs.table.to_pylist()
    read = {row["id"]: members.read_image(inputs.root, row) for row in rows}
    return {name: int(decode(data).pixels_HWC[0, 0, 0]) for name, data in read.items()}


EVERY = {"a.png": 0, "b c.png": 1, "deep/c,1.png": 2, "deep/é.png": 3}


# --- text and tables of paths ---------------------------------------------------------------------


def test_a_text_list_of_paths_starts_from_its_own_folder(folder: Path):
    (folder / "in/list.txt").write_text("\ufeffa.png\r\n\n./b c.png\ndeep/c,1.png\ndeep/é.png")
    assert shades(resolve(str(folder / "in/list.txt"))) == EVERY


def test_of_a_list_of_one_line_no_other_paths_are_spoken_of(folder: Path):
    for text, also in (("gone.png\n", False), ("gone.png\nlost.png\n", True)):
        (folder / "list.txt").write_text(text)
        with pytest.raises(UserError, match=r"gone\.png is not below") as caught:
            resolve(str(folder / "list.txt"))
        assert ("nor are the paths after it" in str(caught.value)) == also


def test_a_text_list_starts_from_root_where_one_is_given(folder: Path):
    (folder / "list.txt").write_text("a.png\nnotes.md\n")
    found = resolve(str(folder / "list.txt"), root=str(folder / "in"))
    assert shades(found) == {"a.png": 0}
    assert found.left_out == {".md": 1}
    with pytest.raises(UserError, match=r"a\.png is not below .*; give --root"):
        resolve(str(folder / "list.txt"))


def test_absolute_paths_start_from_the_folder_that_they_share(folder: Path):
    listed = [folder / "in/a.png", folder / "in/deep/é.png", folder / "in/deep/../b c.png"]
    (folder / "list.txt").write_text("\n".join(map(str, listed)))
    found = resolve(str(folder / "list.txt"))
    assert found.root.root == str(folder / "in")
    assert shades(found) == {"a.png": 0, "b c.png": 1, "deep/é.png": 3}
    (folder / "in/deep/list.txt").write_text("../a.png\né.png\n")
    assert set(shades(resolve(str(folder / "in/deep/list.txt")))) == {"a.png", "deep/é.png"}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("https://example.org/a.png\n", "https is not read from; fetch the files first"),
        ("s3://one/a.png\ns3://two/a.png\n", "in several buckets; make a list of each"),
        ("s3://one/a.png\n/tmp/a.png\n", "on disk and in buckets"),
        ("gs://one/a.png\ns3://one/a.png\n", "in several buckets; make a list of each"),
        ("az://one/a.png\na.png\n", "on disk and in buckets"),
        ("\n\n", "holds no image"),
        ("notes.md\n", r"holds no image \(left out: 1 \.md\)"),
        ("a.png,0,0,4,8\n", "needs --root"),
        ("a.png 0\n", "needs --root"),  # an annotation list, of another scheme
    ],
)
def test_what_a_list_may_not_hold_is_said(folder: Path, lines: str, why: str):
    (folder / "in/list.txt").write_text(lines)
    with pytest.raises(UserError, match=why):
        resolve(str(folder / "in/list.txt"))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("id,Path,note\n1,a.png,x\n2,b c.png,y\n", None),
        ("file_name;note\na.png;1\nb c.png;2\n", None),
        ("x\tphoto\n1\ta.png\n2\tb c.png\n", None),  # told by what stands in it
        ("path,photo\n1,a.png\n2,b c.png\n", "photo"),
        ("\ufeffpath\r\na.png\r\nb c.png\r\n", None),
        ("a.png\nb c.png\n", None),  # no header
    ],
)
def test_a_csv_of_paths(folder: Path, text: str, column: str | None):
    (folder / "in/table.csv").write_text(text, encoding="utf-8")
    found = resolve(str(folder / "in/table.csv"), column=column)
    assert shades(found) == {"a.png": 0, "b c.png": 1}


def test_a_quoted_name_and_a_row_without_a_path(folder: Path):
    with (folder / "in/table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["n", "path"], [1, "deep/c,1.png"], [2, ""], [3, "a.png"]])
    found = resolve(str(folder / "in/table.csv"))
    assert shades(found) == {"deep/c,1.png": 2, "a.png": 0}
    assert found.left_out == {"without a path": 1}


@pytest.mark.parametrize(
    ("text", "column", "why"),
    [
        (
            "a,b\n1,2\n",
            None,
            r"which column holds the paths\? Say it with --column \(it has a, b\)",
        ),
        ("a,b\nx.png,y.png\n", None, "which column"),
        ("path,b\nx.png,2\n", "c", r"has no column 'c' of text \(it has path, b\)"),
    ],
)
def test_a_csv_whose_paths_are_not_found_says_so(folder: Path, text: str, column: Any, why: str):
    (folder / "in/table.csv").write_text(text)
    with pytest.raises(UserError, match=why):
        resolve(str(folder / "in/table.csv"), column=column)


def test_a_parquet_table_of_paths(folder: Path):
    table = pa.table({"n": [1, 2, 3], "image_path": ["a.png", None, "deep/é.png"]})
    pq.write_table(table, folder / "in/table.parquet")
    found = resolve(str(folder / "in/table.parquet"))
    assert shades(found) == {"a.png": 0, "deep/é.png": 3}
    assert found.left_out == {"without a path": 1}


def test_repeats_are_scored_once_and_all_get_the_score(folder: Path):
    (folder / "in/list.txt").write_text("b c.png\n" + "a.png\n" * 1000)
    asked = resolve(str(folder / "in/list.txt")).table
    once = without_repeats(asked)
    assert once["id"].to_pylist() == ["b c.png", "a.png"]
    scored = pa.table(
        {
            "id": once["id"],
            "path": once["path"],
            "logit": [1.0, 2.0],
            "ms": pa.array([5.0, 7.0], pa.float32()),
        }
    )
    rows = with_repeats(scored, asked).to_pylist()
    assert len(rows) == asked.num_rows == 1001
    assert [row["id"] for row in rows] == sorted(asked["id"].to_pylist())
    assert {(row["path"], row["logit"]) for row in rows} == {("a.png", 2.0), ("b c.png", 1.0)}
    assert {row["id"] for row in rows if row["path"] == "a.png"} >= {
        "a.png",
        "a.png#1",
        "a.png#999",
    }
    assert sum(row["ms"] for row in rows) == 12.0  # the time was spent once


# --- images inside files --------------------------------------------------------------------------


def write_tar(path: Path, files: dict[str, bytes], **options: Any) -> None:
    with tarfile.open(path, **{"mode": "w"} | options) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


SHARD = {
    "0001.png": picture(1),
    "0001.json": b"{}",
    "0001.txt": b"a cat",
    "./d/0002.png": picture(2),
    "0001.png~": b"",
    "../up.png": picture(3),
    "long/" * 30 + "n.png": picture(4),
    "é\udcff.png": picture(5),
}


def test_a_tar_is_read_member_by_member(folder: Path):
    write_tar(folder / "00.tar", SHARD, format=tarfile.PAX_FORMAT)
    found = resolve(str(folder / "00.tar"))
    assert found.root.root == str(folder)
    assert shades(found) == {
        "00.tar/0001.png": 1,
        "00.tar/d/0002.png": 2,
        "00.tar/up.png": 3,
        f"00.tar/{'long/' * 30}n.png": 4,
        "00.tar/é\\udcff.png": 5,
    }
    assert found.left_out == {".json": 1, ".txt": 1, "*~": 1}
    # The table holds places, no bytes.
    assert found.table.nbytes < 2_000
    assert found.read("00.tar/d/0002.png") == picture(2)


def test_a_name_that_a_tar_has_twice_is_two_images(folder: Path):
    with tarfile.open(folder / "00.tar", "w") as tar:
        for shade in (1, 2):
            member = tarfile.TarInfo("a.png")
            member.size = len(picture(shade))
            tar.addfile(member, io.BytesIO(picture(shade)))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        tar.addfile(link)
    found = resolve(str(folder / "00.tar"))
    assert shades(found) == {"00.tar/a.png": 1, "00.tar/a.png#1": 2}
    assert found.left_out == {"links in a tar": 1}


@pytest.mark.parametrize("keep", [5_000, 700, 100])
def test_a_tar_that_ends_too_soon_is_refused(folder: Path, keep: int):
    write_tar(folder / "00.tar", {"a.png": picture(1), "noise": bytes(9_000)})
    (folder / "00.tar").write_bytes((folder / "00.tar").read_bytes()[:keep])
    with pytest.raises(UserError, match=r"00\.tar: not a tar, or a damaged one"):
        resolve(str(folder / "00.tar"))


def hugging_face(values: list[Any], row_group_size: int = 2) -> bytes:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"label": list(range(len(values))), "image": pa.array(values, kind)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group_size)
    return sink.getvalue()


def test_images_in_a_parquet_as_hugging_face_has_them(folder: Path):
    values = [{"bytes": picture(n), "path": f"x/{n}.png"} for n in range(4)]
    values += [{"bytes": picture(9), "path": None}, {"bytes": None, "path": "a.png"}, None]
    (folder / "in/train-0.parquet").write_bytes(hugging_face(values))
    found = resolve(str(folder / "in/train-0.parquet"))
    names = found.table["path"].to_pylist()
    assert names == [
        *(f"train-0.parquet/{n}_{n}.png" for n in range(4)),
        "train-0.parquet/4",
        "train-0.parquet/5_a.png",
        "train-0.parquet/6",
    ]
    readable = Inputs(found.root, found.table.slice(0, 6))
    assert list(shades(readable).values()) == [0, 1, 2, 3, 9, 0]
    with pytest.raises(members.ImageError, match="holds no image"):
        found.read("train-0.parquet/6")


@pytest.mark.parametrize(("name", "column"), [("jpg", None), ("thing", "thing")])
def test_plain_bytes_in_a_parquet(folder: Path, name: str, column: str | None):
    pq.write_table(pa.table({name: [picture(4), picture(5)]}), folder / "t.parquet")
    found = resolve(str(folder / "t.parquet"), column=column)
    assert shades(found) == {"t.parquet/0": 4, "t.parquet/1": 5}


def test_a_replaced_file_is_read_anew(folder: Path):
    path = folder / "t.parquet"
    pq.write_table(pa.table({"jpg": [picture(4)]}), path)
    assert shades(resolve(str(path))) == {"t.parquet/0": 4}
    path.unlink()
    pq.write_table(pa.table({"jpg": [picture(6)]}), path)
    assert shades(resolve(str(path))) == {"t.parquet/0": 6}


def test_a_folder_and_a_pattern_of_shards(folder: Path):
    shards = folder / "shards"
    shards.mkdir()
    write_tar(shards / "0.tar", {"a.png": picture(1), "a.txt": b"cat"})
    (shards / "1.parquet").write_bytes(hugging_face([{"bytes": picture(2), "path": None}]))
    (shards / "0_stats.json").write_text("{}")
    found = resolve(str(shards))
    assert shades(found) == {"0.tar/a.png": 1, "1.parquet/0": 2}
    assert found.left_out == {".txt": 1, ".json": 1}
    assert shades(resolve(str(shards / "*.tar"))) == {"0.tar/a.png": 1}
    pq.write_table(pa.table({"path": ["a.png"]}), shards / "2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet: holds no column of images"):
        resolve(str(shards))


def test_images_in_a_tar_on_s3(s3: Any, folder: Path):
    write_tar(folder / "00.tar", SHARD)
    open_store("s3://test/shards").put("00.tar", (folder / "00.tar").read_bytes())
    open_store("s3://test/shards").put("1.parquet", hugging_face([{"bytes": picture(9)}]))
    found = resolve("s3://test/shards")
    assert shades(found)["00.tar/d/0002.png"] == 2
    assert shades(found)["1.parquet/0"] == 9


# --- what is refused says what to do --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("photos.zip", "unpack it and give the folder"),
        ("photos.tar.gz", "uncompress it to a .tar"),
        ("photos.jsonl", r"save the paths one a line, as \.txt"),
    ],
)
def test_what_is_not_read_says_what_is(folder: Path, name: str, advice: str):
    (folder / name).write_bytes(b"x")
    with pytest.raises(UserError, match=advice):
        resolve(str(folder / name))


def test_a_column_goes_with_a_table(folder: Path):
    with pytest.raises(UserError, match="--column: goes with a table"):
        resolve(str(folder / "in"), column="path")


def test_a_folder_may_be_called_like_a_file_or_a_pattern(folder: Path):
    (folder / "in").rename(folder / "set [1].parquet")
    assert shades(resolve(str(folder / "set [1].parquet"))) == EVERY


def test_a_damaged_row_group_is_named_in_its_rows(folder: Path):
    noise = [{"bytes": bytes(range(256)) * 20, "path": None} for _ in range(4)]
    data = bytearray(hugging_face(noise))
    (folder / "in/t.parquet").write_bytes(data)
    found = resolve(str(folder / "in/t.parquet"))
    at = data.index(bytes(range(200, 240)))
    data[4:at] = bytes(at - 4)  # pages of the first row group; what is at the end says as before
    with (folder / "in/t.parquet").open("r+b") as file:
        file.write(data)
    with pytest.raises(members.ImageError, match="its row of the table"):
        found.read("t.parquet/0")
