"""Every job as a user starts it: wrong use ends in one line and exit code 2."""

import runpy
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"
NAMES = sorted(path.stem for path in JOBS.glob("*.py") if path.stem != "pipeline")


def run(capsys: pytest.CaptureFixture, name: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and the lines on stderr."""
    before = sys.argv
    sys.argv = [f"{name}.py", *arguments]
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(JOBS / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = before
    return int(ended.value.code or 0), capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture, name: str):
    code, lines = run(capsys, name, "--output", "out", "--nonsense", "1")
    assert code == 2
    assert len(lines) == 1
    assert "--nonsense" in lines[0]


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_key_is_named_with_file_and_line(
    capsys: pytest.CaptureFixture, name: str, tmp_path: Path
):
    config = tmp_path / "c.yaml"
    config.write_text("# mine\nnonsense: 1\n")
    code, lines = run(capsys, name, "--config", str(config))
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {config}:2: unknown key 'nonsense'")


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_each_option_means(capsys: pytest.CaptureFixture, name: str):
    sys_argv = sys.argv
    sys.argv = [f"{name}.py", "--help"]
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(JOBS / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = sys_argv
    assert not ended.value.code
    text = capsys.readouterr().out
    assert "--config" in text
    assert "--output" in text or "--root" in text or name == "describe"  # which writes nothing


WRONG = {
    "no detector": ("predict", ["--detector", "none", "--input", "."], "none: no such detector"),
    "no input": (
        "evaluate",
        ["--detector", "none", "--scores", "x", "--annotations", "y"],
        "no such detector",
    ),
    "no list": ("perturb", ["--annotations", "none.txt", "--root", "."], "none.txt: no such file"),
    "no perturbation": (
        "perturb",
        ["--annotations", "none.txt", "--root", ".", "--perturbation", "x"],
        "configs/perturbations",
    ),
    "no scheme": (
        "perturb",
        ["--annotations", "a.txt", "--root", ".", "--scheme", "x"],
        "annotations",
    ),
    "no evaluation": ("report", ["--evaluations", "none"], "none/metrics.json: no such file"),
    "no config": ("train", ["--config", "none.yaml"], "none.yaml: no such file"),
    "no photographs": ("demo", ["--photos", "none"], "none: no such folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_missing_is_named_in_one_line(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
):
    monkeypatch.chdir(tmp_path)
    name, arguments, expected = WRONG[case]
    code, lines = run(capsys, name, *arguments, "--output", str(tmp_path / "out"))
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert expected in lines[0]


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.txt").write_text("a.png,0,0,4,8\n")
    code, lines = run(
        capsys,
        "perturb",
        "--annotations",
        str(tmp_path / "a.txt"),
        "--root",
        str(tmp_path),
        "--output",
        str(tmp_path / "file/out"),
    )
    assert code == 2, lines
    assert len(lines) == 1
    assert "file/out" in lines[0]


def test_the_old_name_of_a_benchmark_says_the_new_one(capsys: pytest.CaptureFixture):
    code, lines = run(capsys, "pipeline", "--nonsense", "1")
    assert code == 2
    assert lines[0] == "jobs/pipeline.py is now jobs/benchmark.py"
