"""Ctrl-C while a job is still being imported: one line, exit code 130, no traceback."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "jobs"
JOBS = [path for path in sorted(SCRIPTS.glob("*.py")) if path.stem != "pipeline"]  # an old name
# What a job takes: its work is imported once its settings are parsed.
TAKES = {"train": "--config demo --annotations x.txt --root x --output x", "report": "--output x"}
# Loaded early and late among the imports of a job that needs them.
LIBRARIES = ("_pydantic_core", "_multiarray_umath", "libtorch_cpu", "_raylet")


def interrupted_at(
    script: Path, library: str, folder: Path
) -> "subprocess.CompletedProcess[str] | None":
    """The job stopped as soon as it has loaded a library; None where it ends without it."""
    process = subprocess.Popen(
        [sys.executable, str(script), *TAKES.get(script.stem, "--no-such-option").split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        # A shell's background jobs ignore it, and so would theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and library not in maps.read_text():
        time.sleep(0.002)
    by_itself = process.poll() is not None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    if by_itself:
        return None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_every_job_begins_with_the_guard(script: Path) -> None:
    first = next(
        node
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.Import) and node.names[0].name.startswith("rayapp")
    )
    rest = [n for n in ast.walk(ast.parse(script.read_text())) if isinstance(n, ast.ImportFrom)]
    assert first.names[0].name == "rayapp.config.begin"
    assert all(node.lineno > first.lineno for node in rest)


@pytest.mark.parametrize(
    ("name", "library"), [("report", "_pydantic_core"), ("train", "libtorch_cpu")]
)
def test_ctrl_c_during_imports_is_one_line(name: str, library: str, tmp_path: Path) -> None:
    script = next(path for path in JOBS if path.stem == name)
    ended = interrupted_at(script, library, tmp_path)
    assert ended is not None, "the job came to its end"
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.strip() == "interrupted; the same command goes on from here"


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_ctrl_c_at_any_import_of_any_job(script: Path, library: str, tmp_path: Path) -> None:
    ended = interrupted_at(script, library, tmp_path)
    if ended is None:
        pytest.skip(f"the job came to its end: it does not load {library}")
    assert ended.returncode == 130
    assert ended.stderr.strip() == "interrupted; the same command goes on from here"


def test_whoever_uses_the_package_keeps_their_ctrl_c() -> None:
    code = "import signal; before = signal.getsignal(2); import rayapp.config.command_line as s"
    code += "; assert s; assert signal.getsignal(2) is before"
    environment = {**os.environ, "PYTHONPATH": str(JOBS[0].parents[1])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


SWALLOWS = """
import time
from rayapp.config.settings import JobSettings
from rayapp.config.command_line import run_job

def job(settings):
    try:
        print("working", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("numpy.core.multiarray failed to import")  # as its C code does

run_job(JobSettings, job)
"""


def test_what_a_library_makes_of_ctrl_c_is_still_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SWALLOWS)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "job.py"), "--output", "o"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(JOBS[0].parents[1])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip() == "interrupted; the same command goes on from here"
