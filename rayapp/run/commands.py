"""Command lines to copy: what a job proposes to run next."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rayapp.config.packaged import shipped_folder
from rayapp.config.paths import nearby, submitted


def command(job: str, **options: str | Sequence[str]) -> str:
    """A job's command line to copy into this shell; what that would take apart is quoted."""
    words = _invocation(job)
    for name, given in options.items():
        values = [given] if isinstance(given, str) else given
        words += [f"--{name.replace('_', '-')}", *map(nearby, values)]
    return shlex.join(words)


def _invocation(job: str) -> list[str]:
    """The words that start a job: `imaginet JOB` where PATH leads to ours, else by their path."""
    ours, found = Path(sys.executable).with_name("imaginet"), shutil.which("imaginet")
    by_name = found and ours.exists() and ours.samefile(found)
    if by_name or submitted():  # of a submitted job nothing is known of the reader's shell
        return ["imaginet", job]
    if ours.exists():
        return [nearby(str(ours)), job]
    return [nearby(sys.executable), nearby(str(shipped_folder("jobs") / f"{job}.py"))]
