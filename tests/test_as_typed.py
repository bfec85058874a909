"""The commands of README and docs, as a reader types them: a plain shell, relative paths.

The shell knows the environment's `bin` and the system's, and stands in a folder that is not the
repository. Every command is in one of the two lists below; one that is in neither fails.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detectors import saved_detector
from tests.job_settings import JOBS, fields_of, settings_of

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCS = [ROOT / "README.md", ROOT / "annotations/README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Beginnings of commands that are run, in the order of the documents.
RUN = (
    "imaginet predict --detector runs/demo/detector",
    "imaginet annotate",
    "L=",
    "imaginet audit",
    "imaginet train --config configs/demo.yaml",
    "imaginet calibrate --detector runs/mine",
    "imaginet evaluate --detector runs/mine",
    "imaginet report --evaluations runs/mine",
    "imaginet prune",
    "imaginet report --output",
    "imaginet report --evaluations runs/tables --output",
)
# Beginnings of commands that are not, and why.
LEFT_OUT = {
    "make": "in the repository, minutes; the drills of the demo and these tests are what it runs",
    "export PATH=": "the shell of this test has it",
    "imaginet calibrate --fpr 0.01": "an option, no whole command",
    "imaginet weights": "network",
    "imaginet predict --detector runs/weights": "published weights, network",
    "imaginet describe DETECTOR": "of a detector of one's own; tests/jobs/test_describe.py",
    "imaginet download": "network",
    "imaginet demo --tiny": "minutes; tests/drills/test_submit_drill.py runs both",
    "imaginet evaluate --detector DIR": "the published test set",
    "imaginet evaluate --detector runs/weights": "the published test set",
    "imaginet evaluate --detector runs/calibrated": "the published test set",
    "imaginet report --evaluations runs/tables runs/clean": "the published test sets",
    "imaginet perturb": "the published test set",
    "imaginet pack": "the published training set",
    "imaginet train --config imaginet": "the published training set, days",
    "imaginet calibrate --detector runs/selfcon": "the published training set",
    "imaginet benchmark": "S3, hours; tests/drills/test_pipeline_drill.py has a small one",
    "tensorboard": "a server",
    "ray": "a cluster; tests/drills/test_submit_drill.py and test_paths_drill.py have one",
    "export RAY_AUTH_MODE": "a cluster",
    "RAY_ADDRESS=auto": "a cluster, S3",
    "A=": "of commands that are left out",
    "B=": "of commands that are left out",
    "python benchmarks/": "in the repository",
}
BEFORE = {"imaginet report --evaluations runs/tables": "cp -r runs/mine/evaluation runs/tables"}
CODES = {"imaginet audit": {0, 3}}  # 3: what it finds in pictures made of noise
NO_COMMANDS = {"text", "python", "yaml", "bibtex"}  # other blocks than `sh`

_PARTS = re.compile(
    r"^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```$|`(?P<inline>[^`]+)`", re.MULTILINE | re.DOTALL
)
_WITH_OPTIONS = re.compile(r"\bimaginet ([a-z]+)(\s(?:(?!imaginet )[^`&|;)\n]|\\\n)*)")
_INLINE = re.compile(r"(imaginet|make|python|ray|tensorboard|pip)\s\S+\s")


def commands_of(text: str) -> list[str]:
    """The commands of a document in order, each in one line: of its blocks and of its sentences."""
    found = []
    for part in _PARTS.finditer(text):
        if part["inline"] is not None:
            line = " ".join(part["inline"].split())
            found += [line] if _INLINE.match(line) else []
        elif part["language"] == "sh":
            lines = re.sub(r" *\\\n *", " ", part["body"]).split("\n")
            found += [line.strip() for line in lines if line.strip()]
        else:
            assert part["language"] in NO_COMMANDS, f"say what this block is: {part[0]}"
    return found


def all_commands() -> list[str]:
    return [command for path in DOCS for command in commands_of(path.read_text())]


def begins(command: str, starts: Sequence[str]) -> list[str]:
    return [start for start in starts if command.startswith(start)]


def test_every_command_is_run_or_left_out_for_a_reason() -> None:
    known = [*RUN, *LEFT_OUT]
    for command in all_commands():
        assert len(begins(command, known)) == 1, f"in neither list, or in both: {command}"
    unused = [start for start in known if not any(c.startswith(start) for c in all_commands())]
    assert not unused, "no document has these"


def test_every_job_that_is_named_is_there_with_its_options() -> None:
    scripts = {script.stem: script for script in JOBS}
    texts = [path.read_text() for path in (*DOCS, *(ROOT / "configs").rglob("*.yaml"))]
    options: dict[str, list[str]] = defaultdict(list)
    for job, rest in (found.groups() for text in texts for found in _WITH_OPTIONS.finditer(text)):
        options[job] += re.findall(r"(?<=\s)--[a-z][a-z0-9.-]*", rest)
    for job, given in options.items():
        fields = {name.removeprefix(".") for name, _ in fields_of(settings_of(scripts[job]), "")}
        known = {f"--{name.replace('_', '-')}" for name in fields} | {"--config", "--help"}
        assert not set(given) - known, job


# --- the shell ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    command: str
    code: int
    said: str


@dataclass(frozen=True)
class Reader:
    """Someone at a shell of their own."""

    folder: Path
    home: Path

    def types(self, commands: Sequence[str]) -> list[Ended]:
        """One command after the other in one shell; how each ended."""
        lines = []
        for command in commands:
            before = [BEFORE[start] for start in begins(command, list(BEFORE))]
            lines += [*before, command, 'echo "@@ $?"']
        env = {"PATH": self.path, "HOME": str(self.home)}
        done = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1500,
        )
        said = re.split(r"^@@ (\d+)\n", done.stdout, flags=re.MULTILINE)
        codes = map(int, said[1::2])
        return [Ended(*one) for one in zip(commands, codes, said[::2], strict=False)]

    @property
    def path(self) -> str:
        return f"{BIN}:/usr/bin:/bin"

    def check(self, ended: Ended) -> None:
        """It ended well, names nothing that is not there, and proposes what this shell can run."""
        codes = next((CODES[start] for start in begins(ended.command, list(CODES))), {0})
        assert ended.code in codes, f"{ended.command}\n{ended.said}"
        for named in re.findall(rf"{re.escape(str(self.folder))}[^\s'\",;:)]*", ended.said):
            assert Path(named).exists(), f"{named} is not there\n{ended.command}\n{ended.said}"
        for proposed in re.findall(r"^next: (?!the same command)(.*)", ended.said, re.MULTILINE):
            first, *words = shlex.split(proposed)
            assert shutil.which(first, path=self.path) or self._there(first), proposed
            for word in words:
                assert "/" not in word or "://" in word or self._there(word), proposed

    def _there(self, path: str) -> bool:
        return os.path.exists(os.path.join(self.folder, path))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """With pictures in IMAGES and FOLDER, and a detector where `make demo` leaves one."""
    assert (BIN / "imaginet").exists(), "the package is not installed: pip install -e ."
    folder, home = tmp_path / "a folder of mine", tmp_path / "home"
    home.mkdir()
    pictures(folder / "IMAGES/real", 40, noise=12.0)
    pictures(folder / "IMAGES/synthetic/smooth", 30, noise=0.0)
    pictures(folder / "IMAGES/synthetic/nearly", 30, noise=3.0)
    pictures(folder / "FOLDER", 4, noise=12.0)
    saved_detector(folder / "runs/demo/detector")
    return Reader(folder, home)


def pictures(folder: Path, count: int, noise: float) -> None:
    """Coloured clouds, more or less grainy."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(str(folder)) + count)
    for number in range(count):
        clouds = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        pixels = np.asarray(clouds.resize((288, 288), Image.Resampling.BICUBIC), np.float64)
        pixels += rng.normal(0, noise, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")


@pytest.mark.drill
@pytest.mark.first
@pytest.mark.timeout(900)
def test_the_detector_is_where_training_says(reader: Reader) -> None:
    chain = ("imaginet annotate", "L=", "imaginet train")
    chosen = [c for c in all_commands() if begins(c, RUN) and begins(c, chain)]
    ended = reader.types([*chosen, chosen[-1]])
    for one in ended:
        reader.check(one)
    assert len(ended) == 4
    assert (reader.folder / "runs/mine/train/detector/model.safetensors").exists()
    assert "(done before)" not in ended[-2].said
    assert "(done before)" in ended[-1].said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_documents_commands(reader: Reader) -> None:
    chosen = [command for command in all_commands() if begins(command, RUN)]
    ended = reader.types(chosen)
    for one in ended:
        reader.check(one)
    assert len(ended) == len(chosen)
    page = (reader.folder / "runs/mine/report/report.html").read_text()
    assert "imaginet evaluate --detector runs/mine/detector" in page, "what is typed to repeat it"
