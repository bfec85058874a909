"""The job on Ray, as a user runs it: plan, dry run, manifest, misses, exit codes."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rayapp.config.command_line import run_job
from rayapp.config.errors import UserError
from rayapp.download.settings import DownloadSettings
from rayapp.jobs.download import download
from tests.doubles.server import Server, files_handler
from tests.download.helpers import make_zip, photos, write_list

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "jobs/download.py")
PHOTOS = photos(600)
NAMES = list(PHOTOS)[::3]
pytestmark = pytest.mark.ray


@pytest.fixture
def server() -> Iterator[Server]:
    files = {"/a.zip": make_zip(PHOTOS), "/lists/x.txt": b"hello"}
    with Server(files_handler(files)) as running:
        yield running


def catalogue(server: Server, tmp_path: Path) -> str:
    text = f"""
origins: {{http: {{gap_bytes: 4096}}}}
sources:
  photos:
    about: photos
    at: ["{server.url}/a.zip"]
    paths: {{train2017/: train2017/}}
    licence: CC0-1.0
    attribution: nobody
  guarded:
    about: needs an account
    at: ["drive://x"]
    paths: {{guarded/: ""}}
    page: https://example.org/rules
    accept: accept the rules
  lists:
    about: a list
    kind: annotations
    at: ["{server.url}/lists/{{name}}"]
    form: files
    files: {{x.txt: "git:b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"}}
"""
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    return str(path)


def job(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GOOGLE_APPLICATION_CREDENTIALS": ""}
    command = [sys.executable, SCRIPT, "--cpus", "2", *options]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


Job = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Job:
    """The same script in this process, in the Ray session that tests share."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [SCRIPT, *options])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(SCRIPT, run_name="__main__")
        return subprocess.CompletedProcess(options, int(left.value.code or 0), *capsys.readouterr())

    return run


def test_the_job(server: Server, tmp_path: Path, here: Job) -> None:
    book = catalogue(server, tmp_path)
    names = [*NAMES, "train2017/none.jpg", "guarded/1.jpg", "elsewhere/1.jpg"]
    root = tmp_path / "root"
    common = ["--output", str(root), "--catalogue", book, "--sources", "photos", "guarded", "lists"]
    common += ["--annotations", write_list(tmp_path / "list.txt", names)]

    dry = here(*common, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not server.requests  # nothing is asked before a dry run is read
    assert "201" in dry.stdout
    assert "GOOGLE_APPLICATION_CREDENTIALS" in dry.stdout
    assert "accept the rules: https://example.org/rules" in dry.stdout
    assert "1 annotated images are not from the chosen sources" in dry.stdout
    assert not list(root.rglob("*.jpg"))

    first = job(*common)
    assert first.returncode == 3, first.stderr
    assert {str(p.relative_to(root)) for p in root.rglob("*.jpg")} == set(NAMES)
    assert all((root / name).read_bytes() == PHOTOS[name] for name in NAMES)
    assert (root / "x.txt").read_bytes() == b"hello"
    table = pq.read_table(root / "manifest.parquet")
    assert table.num_rows == len(NAMES) + 3
    rows = {row["path"]: row for row in table.to_pylist()}
    assert rows[NAMES[0]]["licence"] == "CC0-1.0"
    assert rows[NAMES[0]]["model"] == 8  # the annotated labels are in the manifest
    misses = (root / "misses.csv").read_text().splitlines()
    assert misses[0] == "path,source,reason"
    assert len(misses) == 3
    assert "GOOGLE_APPLICATION_CREDENTIALS" in misses[1]
    assert misses[2] == "train2017/none.jpg,photos,no such member in the archive"
    record = json.loads((root / "run.json").read_text())
    assert record["counts"]["ok"] == len(NAMES) + 1
    assert "download: 203 of 203" in first.stderr

    server.reset_counters()
    again = here(*common)
    assert again.returncode == 3
    # The one miss is asked for again: its archive is pinned and sniffed; no image is fetched.
    assert server.bytes_sent < 1024, server.requests
    second = json.loads((root / "run.json").read_text())
    assert second["results"] == record["results"]


def test_other_settings_are_refused_and_with_overwrite_add_to_what_is_there(
    server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    given = {
        "output": str(root),
        "catalogue": catalogue(server, tmp_path),
        "sources": ["photos"],
        "cpus": 2,
    }
    few = write_list(tmp_path / "few.txt", NAMES[:5])
    root.mkdir()
    (root / "own.txt").write_text("somebody's")
    run = download(DownloadSettings(**given, annotations=[few]))
    assert run.state == "new"
    assert run.counts["ok"] == 5
    again = download(DownloadSettings(**given, annotations=[few], threads=3))
    assert again.state == "done"
    more = given | {"annotations": [write_list(tmp_path / "more.txt", NAMES[5:8])]}
    with pytest.raises(UserError, match=r"setting annotations was .*adds to what is there"):
        download(DownloadSettings(**more))
    assert download(DownloadSettings(**more, overwrite=True)).state == "new"
    assert sorted(p.name for p in root.rglob("*.jpg")) == sorted(
        Path(name).name for name in NAMES[:8]
    )
    assert (root / "own.txt").read_text() == "somebody's"
    assert pq.read_table(root / "manifest.parquet").num_rows == 8


def test_wrong_use(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = catalogue(server, tmp_path)
    common = ["--output", str(tmp_path / "r"), "--catalogue", book]
    for options, message in (
        (["--sources", "nothing"], "no source 'nothing'"),
        (["--sources", "photos"], "--annotations"),
        (["--sources", "photos", "--threads", "0"], "threads"),
    ):
        with pytest.raises(SystemExit) as left:
            run_job(DownloadSettings, download, [*common, *options])
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_44_a_read_only_target(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o500)
    book = catalogue(server, tmp_path)
    listed = write_list(tmp_path / "l.txt", NAMES)
    done = job(
        "--output", str(root), "--catalogue", book, "--sources", "photos", "--annotations", listed
    )
    assert done.returncode == 2
    assert "can't be written" in done.stderr
