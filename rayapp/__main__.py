"""The console command: `imaginet JOB …` does what `python jobs/JOB.py …` does."""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path

from rayapp.config.defaults import __version__
from rayapp.config.packaged import shipped_folder

_USAGE = """usage: imaginet JOB [--config FILE.yaml] [--OPTION VALUE …]

{jobs}

`imaginet JOB --help` says what a job takes; `imaginet --version` which version this is.
Python: {python}"""


def main() -> None:
    """Run the job that is named; without one, list the jobs.

    Nothing is imported that a list of jobs does without: Ray and torch take seconds.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_USAGE.format(jobs=_listed(), python=sys.executable))
    elif name in ("--version", "-V"):
        print(f"imaginet {__version__}")
    elif name in (jobs := _jobs()):
        sys.argv = [f"imaginet {name}", *arguments]  # what the job calls itself
        _run(jobs[name])
    else:
        close = difflib.get_close_matches(name, jobs, n=1)
        meant = f", did you mean {close[0]}?" if close else ""
        print(f"error: imaginet: no job {name!r}{meant} (`imaginet` lists them)", file=sys.stderr)
        sys.exit(2)


def _run(script: Path) -> None:
    """As `python SCRIPT`; not by runpy, which would set the name of the program to the path."""
    spec = importlib.util.spec_from_file_location("__main__", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["__main__"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _jobs() -> dict[str, Path]:
    """The script of each job by its name."""
    return {path.stem: path for path in sorted(shipped_folder("jobs").glob("*.py"))}


def _listed() -> str:
    """Each job with the first line of its script, which says what it does."""
    jobs = _jobs()
    width = max(map(len, jobs))
    return "\n".join(f"  {name:<{width}}  {_says(path)}" for name, path in jobs.items())


def _says(script: Path) -> str:
    says = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return says.partition("\n")[0]


if __name__ == "__main__":
    main()
