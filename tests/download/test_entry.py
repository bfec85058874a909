"""Weights fetched by the name of their entry: whole, verified, resumed; no list, no Ray."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rayapp.config.errors import JobFailed, UserError
from rayapp.download import file_parts
from rayapp.download.entry import fetch_entry, is_whole
from rayapp.download.origins.catalogue import load_catalogue
from tests.doubles.drive import Drive
from tests.doubles.hub import Hub
from tests.doubles.server import Reply, Request, Server, files_handler
from tests.download.helpers import FAST, make_zip

CHECKPOINT = bytes(range(256)) * 400


def book(tmp_path: Path, entry: str, origins: str = "{}") -> str:
    path = tmp_path / "sources.yaml"
    path.write_text(
        f"origins: {origins}\nsources:\n  w:\n    about: weights\n    kind: weights\n    {entry}\n"
    )
    return str(path)


def drive_book(server: Server, tmp_path: Path, entry: str) -> str:
    return book(tmp_path, entry, f"{{drive: {{endpoint: '{server.url}'}}}}")


def test_one_file_on_drive_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_parts, "PART_BYTES", 10_000)
    double = Drive()
    double.files["id1"] = CHECKPOINT
    root = str(tmp_path / "root")
    with double.server() as server:
        account = double.write_account(tmp_path / "account.json", server.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        entry = "at: ['drive://id1']\n    form: files\n    files: {w/a.pt: ''}"
        catalogue = drive_book(server, tmp_path, entry)

        def broken(request: Request, number: int, right: Reply) -> Reply:
            return Reply(404) if "bytes=90000-" in str(request.headers) else right

        server.script = broken
        with pytest.raises(JobFailed, match=r"w/a\.pt.*404"):
            fetch_entry("w", root, catalogue=catalogue, patience=FAST)
        server.script = None
        served = double.served
        seen: list[int] = []
        (file,) = fetch_entry("w", root, catalogue=catalogue, patience=FAST, show=seen.append)
        assert double.served - served <= 2  # what was missing, and no other part
        assert Path(file.uri).read_bytes() == CHECKPOINT
        assert file.sha256 == hashlib.sha256(CHECKPOINT).hexdigest()
        assert (file.key, file.num_bytes) == ("w/a.pt", len(CHECKPOINT))
        assert file.origin_uri == "drive://id1"
        assert seen[-1] > 2400
        assert not list(Path(root).rglob("*/parts/*"))
        served = double.served
        assert fetch_entry("w", root, catalogue=catalogue, patience=FAST) == [file]
        assert double.served == served


def test_parts_of_another_revision_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_parts, "PART_BYTES", 10_000)
    other = bytes(len(CHECKPOINT))
    entry = "at: ['URL/a.pt']\n    form: files\n    files: {a.pt: ''}"
    root = str(tmp_path / "root")
    with Server(files_handler({"/a.pt": CHECKPOINT})) as server:
        catalogue = book(tmp_path, entry.replace("URL", server.url))
        server.script = lambda q, n, r: Reply(404) if "=50000-" in q.headers["range"] else r
        with pytest.raises(JobFailed):
            fetch_entry("w", root, catalogue=catalogue, patience=FAST)
        server.script = None
        server.handler = files_handler({"/a.pt": other}, '"v2"')
        (file,) = fetch_entry("w", root, catalogue=catalogue, patience=FAST)
        assert Path(file.uri).read_bytes() == other


def test_a_wrong_checksum_is_no_file(tmp_path: Path) -> None:
    entry = f"at: ['URL/a.pt']\n    form: files\n    files: {{a.pt: 'sha256:{'0' * 64}'}}"
    with Server(files_handler({"/a.pt": CHECKPOINT})) as server:
        catalogue = book(tmp_path, entry.replace("URL", server.url))
        with pytest.raises(JobFailed, match="sha256"):
            fetch_entry("w", str(tmp_path / "root"), catalogue=catalogue, patience=FAST)
    assert not (tmp_path / "root" / "a.pt").exists()


def test_members_of_a_zip(tmp_path: Path) -> None:
    archive = make_zip({"weights/A/m.pth": b"a" * 500, "weights/B/m.pth": b"b", "readme": b"x"})
    entry = "at: ['URL/w.zip']\n    paths: {w/: ''}\n    files: {w/A/m.pth: '', w/B/m.pth: ''}"
    with Server(files_handler({"/w.zip": archive})) as server:
        catalogue = book(tmp_path, entry.replace("URL", server.url))
        files = fetch_entry("w", str(tmp_path / "root"), catalogue=catalogue, patience=FAST)
    assert [file.key for file in files] == ["w/A/m.pth", "w/B/m.pth"]
    assert Path(files[0].uri).read_bytes() == b"a" * 500


def test_every_file_of_a_repository_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    served = {"model.safetensors": CHECKPOINT, "config.json": b"{}"}
    with Hub({f"/o/m/resolve/main/{name}": data for name, data in served.items()}) as hub:
        origins = f"{{hf: {{endpoint: '{hub.endpoint.url}'}}}}"
        catalogue = book(tmp_path, "at: ['hf://o/m@main/*']\n    form: folder", origins)
        root = str(tmp_path / "root")
        files = fetch_entry("w", root, catalogue=catalogue, patience=FAST)
        assert [file.key for file in files] == ["w/config.json", "w/model.safetensors"]
        assert Path(files[1].uri).read_bytes() == CHECKPOINT
        hub.files["/o/m/resolve/main/model.safetensors"] = bytes(len(CHECKPOINT))
        hub.listed = {"/o/m/resolve/main/model.safetensors": CHECKPOINT}
        with pytest.raises(JobFailed, match="sha256"):  # the listing's checksum is not the file's
            fetch_entry("w", str(tmp_path / "two"), catalogue=catalogue, patience=FAST)


def test_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(UserError, match="no source 'nothing'"):
        fetch_entry("nothing", str(tmp_path))
    for name in ("coco", "all"):
        with pytest.raises(UserError, match="imaginet download"):
            fetch_entry(name, str(tmp_path))
    with pytest.raises(UserError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        fetch_entry("weights_imaginet", str(tmp_path))


def test_the_shipped_weights() -> None:
    sources = load_catalogue().sources
    weights = {name: source for name, source in sources.items() if source.kind == "weights"}
    assert set(weights) == {
        "weights_imaginet",
        "weights_imaginet_corvi",
        "weights_corvi2022",
        "weights_grag2021",
        "weights_lasted",
        "weights_commfor",
        "autoencoder_taesd",
        "autoencoder_taesdxl",
        "autoencoder_taesd3",
        "autoencoder_taef1",
        "autoencoder_taef2",
    }
    assert all(is_whole(source) and not source.in_all for source in weights.values())
    assert all(path.startswith(f"{n}/") for n, source in weights.items() for path in source.files)
