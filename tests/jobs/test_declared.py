"""What files declare, as a user asks for it."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.dataset.declared.files import A1111, png_texts, saved, with_exif

JOB = Path(__file__).parents[2] / "jobs/declared.py"


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, list[str], str]:
    monkeypatch.setattr(sys, "argv", ["declared.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOB), run_name="__main__")
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out.splitlines(), err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png_texts({"parameters": A1111}))
    (tmp_path / "in/b.jpg").write_bytes(with_exif("JPEG", {271: "Canon", 272: "Canon EOS R5"}))
    (tmp_path / "in/c.jpg").write_bytes(saved("JPEG"))
    (tmp_path / "in/notes.txt").write_text("no image")
    return tmp_path


def test_files_and_folders_are_printed_with_counts(folder: Path, monkeypatch, capsys) -> None:
    code, lines, _ = run(monkeypatch, capsys, "in")
    assert code == 0
    assert lines == [
        "ai-generated  in/a.png",
        "              Stable Diffusion WebUI's settings, PNG tEXt parameters, unverified",
        "              PNG tEXt parameters: Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, "
        "Size: 512x512, Model hash: abc, Model: v1-5, Version: v1.9.0 "
        "(unsigned: anyone can write it)",
        "camera        in/b.jpg",
        "              EXIF of a camera, JPEG APP1 EXIF, unverified",
        "              JPEG APP1 EXIF: Canon EOS R5, without exposure "
        "(unsigned: anyone can write it)",
        "nothing       in/c.jpg",
        "3 files: 1 ai-generated, 1 camera, 1 nothing",
        "nothing declared is no sign of a real image: most services remove all of it",
    ]
    code, lines, _ = run(monkeypatch, capsys, "in/c.jpg", "in/b.jpg")
    assert [line.split()[0] for line in lines if "in/" in line] == ["nothing", "camera"]


def test_tables_are_written(folder: Path, monkeypatch, capsys) -> None:
    for name in ("out.csv", "out.parquet", "out.json"):
        code, lines, _ = run(monkeypatch, capsys, "in", "--output", name)
        assert (code, lines[-1]) == (0, f"written: {name}")
    kinds = ["ai-generated", "camera", "nothing"]
    with (folder / "out.csv").open(encoding="utf-8-sig") as file:
        assert [row["declared"] for row in csv.DictReader(file)] == kinds
    assert pq.read_table(folder / "out.parquet")["declared"].to_pylist() == kinds
    whole = json.loads((folder / "out.json").read_text())
    assert [row["declared"] for row in whole] == kinds
    assert whole[0]["declarations"][0]["state"] == "unverified"


def test_what_is_no_image_is_told_and_not_counted_as_silent(
    folder: Path, monkeypatch, capsys
) -> None:
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.png").touch()
    code, lines, _ = run(monkeypatch, capsys, "text.jpg", "empty.png")
    assert code == 3
    assert [line.split(": ")[1] for line in lines[:2]] == [
        "text, not an image",
        "empty file (0 bytes)",
    ]
    assert lines[2:] == ["0 files: no image", "2 could not be read"]


def test_a_name_moves_no_cursor(folder: Path, monkeypatch, capsys) -> None:
    (folder / "\x1b[31m\n\u202egnp.png").write_bytes(saved("PNG"))
    _, lines, _ = run(monkeypatch, capsys, str(next(folder.glob("*.png"))))
    assert lines[0] == "nothing       \ufffd[31m\ufffd\ufffdgnp.png"


def test_no_cell_of_a_table_is_a_formula(folder: Path, monkeypatch, capsys) -> None:
    (folder / "=cmd.png").write_bytes(png_texts({"parameters": A1111}))
    run(monkeypatch, capsys, "=cmd.png", "--output", "out.csv")
    (row,) = csv.DictReader((folder / "out.csv").open(encoding="utf-8-sig"))
    assert row["path"] == "./=cmd.png"
    assert row["declared"] == "ai-generated"


def test_wrong_use_is_one_line(folder: Path, monkeypatch, capsys) -> None:
    (folder / "empty").mkdir()
    for arguments, said in (
        (["nosuch"], "nosuch: no such file, nor a folder that holds images"),
        (["empty"], "empty: no such file, nor a folder that holds images"),
        (["in", "--output", "x.txt"], "ends in none of .csv, .parquet, .json"),
        (["in", "--trust-list", "in/notes.txt"], "holds no certificates; give a PEM file"),
        ([], "input"),
    ):
        code, _, err = run(monkeypatch, capsys, *arguments)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1


def test_a_trust_list_verifies(folder: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("c2pa")
    from tests.dataset.declared.signed import authority, generated

    (folder / "signed.png").write_bytes(generated("PNG"))
    (folder / "list.pem").write_text(authority()[0])
    code, lines, _ = run(monkeypatch, capsys, "signed.png", "--trust-list", "list.pem")
    assert (code, lines[1].strip()) == (0, "C2PA manifest, PNG caBX, verified")
    assert lines[-1] == "signatures: 1 verified"


def test_it_starts_without_torch_and_ray() -> None:
    code = (
        "import sys, runpy; sys.argv = ['declared.py', 'jobs/declared.py']\n"
        "try: runpy.run_path('jobs/declared.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'cv2', 'scipy', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=JOB.parents[1], capture_output=True)
    assert done.returncode == 0, done.stderr
