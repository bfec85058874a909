from pathlib import Path

import pytest
from PIL import Image

from rayapp.dataset.among_files import describe_left_out, images_among
from rayapp.storage.uris import open_store
from tests.pictures import photographed, saved


def test_what_a_name_does_not_tell_the_bytes_do(tmp_path: Path):
    picture = Image.fromarray(photographed(16, 16))
    images = {
        "IMG_0001": saved(picture, "JPEG"),
        "a/photo.dat": saved(picture, "PNG"),
        "a/shot.HEIC": b"\0\0\0\x18ftypheic",
        "a/upper.JPG": b"text that its decoder will name",
        "b/x.jpg": saved(picture, "JPEG"),
        "b/c.jpg_large": saved(picture, "WEBP"),
    }
    others = {
        "a/photo.json": b"{}",
        "a/photo.txt": b"a caption",
        "b/x.jpg~": saved(picture, "JPEG"),
        "b/clip.mov": b"\0\0\0\x14ftypqt  ",
        "b/notes": b"nothing",
        "b/empty": b"",
        "b/data.bin": b"\0" * 40,
        ".DS_Store": b"\0",
        ".hidden.jpg": saved(picture, "JPEG"),
    }
    for name, data in (images | others).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    store = open_store(tmp_path)
    found, left_out = images_among(store, store.list())
    assert found == sorted(images)
    assert left_out.total() + len(found) == len(images | others)
    assert left_out["without an ending"] == 2
    assert {".json", ".txt", "*~", ".mov", ".bin", ".DS_Store"} <= left_out.keys()
    assert describe_left_out(left_out, 1).endswith(" other kinds")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_every_kind_is_known_by_its_first_bytes(tmp_path: Path, kind: str):
    (tmp_path / "picture").write_bytes(saved(Image.fromarray(photographed(9, 9)), kind))
    store = open_store(tmp_path)
    assert images_among(store, store.list()) == (["picture"], {})
