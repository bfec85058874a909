"""The walk that docs/architecture.md describes is the one that an image takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| \d+ \| `(\S+\.py)` \| `(\S+)` \|", re.MULTILINE)
_NUMBERS = re.compile(r"to its row: (\d+) functions in (\d+) files")


def test_the_walk_is_the_one_that_is_described() -> None:
    """By a process of its own: a session of Ray in this one would take the rows."""
    command = [sys.executable, "benchmarks/walk.py"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    *lines, last = ran.stdout.splitlines()
    measured = [tuple(line.split()) for line in lines]
    text = (ROOT / "docs/architecture.md").read_text()
    assert _ROW.findall(text) == measured
    figures = json.loads(last)
    assert figures["functions"] <= 32
    assert figures["files"] <= 10
    numbers = _NUMBERS.search(text)
    assert numbers is not None
    assert [int(number) for number in numbers.groups()] == [*figures.values()]
