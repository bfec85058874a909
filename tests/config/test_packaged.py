"""Shipped files by name from any folder; a user's own files by path."""

from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource, shipped_names


def test_shipped_file_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("imaginet", "imaginet.yaml", "annotations/imaginet", "annotations/imaginet.yaml"):
        found = resource("annotations", name)
        assert found.name == "imaginet.yaml"
        assert found.is_absolute()


def test_own_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / "imaginet.yaml"
    own.write_text("")
    for name in ("imaginet.yaml", "./imaginet.yaml", "~/imaginet.yaml", str(own)):
        assert resource("annotations", name) == own
    assert resource("annotations", "imaginet") != own


def test_names_that_are_not_there() -> None:
    for name in (
        "nope",
        "../pyproject",
        "annotations/../pyproject",
        "~nobody/x",
        "a\0b",
        "n" * 999,
    ):
        with pytest.raises(UserError, match=r"known: corvi, .*imaginet"):
            resource("annotations", name)
    with pytest.raises(UserError, match="known: none"):
        resource("no-such-folder", "imaginet")


def test_shipped_names() -> None:
    names = shipped_names("annotations")
    assert {"corvi", "imaginet", "practical"} <= set(names)
    assert names == sorted(names)
    assert shipped_names("no-such-folder") == []
