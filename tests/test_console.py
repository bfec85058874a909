"""The console command: it lists the jobs at once, and runs one as its script does."""

import subprocess
import sys
from pathlib import Path

import pytest

from rayapp import __version__

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


def imaginet(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    main = "import sys; from rayapp.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", main, *arguments]
    env = {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_alone_it_lists_every_job_with_what_it_does(tmp_path: Path, arguments: tuple[str]) -> None:
    done = imaginet(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _ in listed] == JOBS
    assert all(says[0].isupper() and says.endswith(".") for _, says in listed)
    assert "python" not in "".join(says for _, says in listed)


def test_its_version() -> None:
    assert imaginet("--version").stdout == f"imaginet {__version__}\n"


def test_an_unknown_job_ends_in_one_line() -> None:
    done = imaginet("trian", "--output", "x")
    said = "error: imaginet: no job 'trian', did you mean train? (`imaginet` lists them)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert "did you mean" not in imaginet("qqq").stderr


def test_it_starts_at_once() -> None:
    code = "import sys; sys.argv[1:] = []; from rayapp.__main__ import main; main(); "
    code += "print(sorted({'ray', 'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_job_is_run_under_its_name(tmp_path: Path) -> None:
    done = imaginet("report", "--nonsense", cwd=tmp_path)
    said = "error: imaginet report: unrecognized arguments: --nonsense (see --help)\n"
    assert (done.returncode, done.stderr) == (2, said)
    done = imaginet("report", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: imaginet report [-h]")


def test_it_does_what_the_script_does(tmp_path: Path) -> None:
    done = imaginet("report", "--output", "out/mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"page         {tmp_path}/out/mine/report.html\n" in done.stdout
    script = [sys.executable, str(ROOT / "jobs/report.py"), "--output", "out/mine"]
    again = subprocess.run(
        script, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert "(done before)" in again.stdout
