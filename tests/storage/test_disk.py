"""A disk that takes no more is named, whatever was being written to it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from rayapp.dataset import manifest
from rayapp.storage.disk import naming, scratch_file, scratch_folder
from rayapp.storage.uris import open_store
from tests.drills.test_download import small_disk

MUCH = bytes(9 << 20)  # more than a small disk holds


def test_the_systems_own_error_names_no_file_and_ours_does() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match=r"device: 'out/a\.png'"), naming("out/a.png"):
            os.write(full, b"x")
    finally:
        os.close(full)


def test_other_errors_and_named_ones_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), naming("out"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(OSError, match=r"^nothing of a disk$"), naming("out"):
        raise OSError("nothing of a disk")
    with pytest.raises(OSError, match="'inner'"), naming("outer"), naming("inner"):
        raise OSError(28, "No space left on device")


def object_in_a_store(disk: Path) -> str:
    open_store(disk / "out").put("images/a.png", MUCH)
    return "out/images/a.png"


def table_by_a_temporary_file(disk: Path) -> str:
    table = pa.table({"x": [MUCH]}).replace_schema_metadata({"also": MUCH})
    manifest.write_chunks(open_store(disk / "out"), "t.parquet", [table], table.schema)
    return ""


def temporary_folder(disk: Path) -> str:
    with scratch_folder() as folder:
        Path(folder, "spill").write_bytes(MUCH)
    return ""


def temporary_file(disk: Path) -> str:
    with scratch_file() as file:
        file.write(MUCH)
        file.flush()
    return ""


@pytest.mark.parametrize(
    "write", [object_in_a_store, table_by_a_temporary_file, temporary_folder, temporary_file]
)
def test_every_way_of_writing_names_the_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], str]
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(OSError, match="No space left on device") as caught:
            write(disk)
        assert str(caught.value.filename).startswith(str(disk))
        if write is object_in_a_store:
            assert caught.value.filename == str(disk / "out/images/a.png")
        assert not list(disk.rglob("*.part"))
