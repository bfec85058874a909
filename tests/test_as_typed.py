"""The commands and programs of README and docs, as a reader types them, page by page.

A plain shell that knows the environment's `bin` and the system's, and stands in a folder that is
not the repository. What needs more than that says so in the source of its page, by a block
`sh not-run: REASON`. Every other block of `sh` and `python` runs, in the order of the pages.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detectors import saved_detector
from tests.job_settings import JOBS, fields_of, settings_of

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
README, INDEX = ROOT / "README.md", ROOT / "docs/index.md"
CODES = {"imaginet audit": {0, 3}}  # 3: what it finds in pictures made of noise
OTHERS = {"text", "yaml", "bibtex", "{toctree}", "{eval-rst}", "{include}"}
OTHERS |= {"{job-options}", "{perturbation-steps}"}

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*) ?(?P<note>[^\n]*)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_WITH_OPTIONS = re.compile(r"\bimaginet ([a-z]+)(\s(?:(?!imaginet )[^`&|;)\n\\]|\\\n)*)")


def pages() -> list[Path]:
    """README, then the pages in the order of the index."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", INDEX.read_text(), re.DOTALL)
    names = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    return [README, *(ROOT / f"docs/{name}.md" for name in names)]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    note: str
    body: str


def blocks(page: Path) -> Iterator[Block]:
    for found in _BLOCK.finditer(page.read_text()):
        body = re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE)
        yield Block(page, found["language"], found["note"], body)


def commands(page: Path) -> list[str]:
    """The commands of a page that run, in order, each in one line; programs by their heredoc."""
    found = []
    for block in blocks(page):
        if block.note.startswith("not-run:"):
            continue
        if block.language == "sh":
            lines = re.sub(r" *\\\n *", " ", block.body).split("\n")
            found += [line.strip() for line in lines if line.strip()]
        elif block.note.startswith("file:"):
            found.append(f"cat > {block.note.removeprefix('file: ')} <<'END'\n{block.body}END")
        elif block.language == "python":
            found.append(f"python - <<'END'\n{block.body}END")
    return found


def begins(command: str, starts: Sequence[str]) -> list[str]:
    return [start for start in starts if command.startswith(start)]


def test_every_page_is_in_the_index() -> None:
    assert {INDEX, *pages()} == {README, *(ROOT / "docs").glob("*.md")}


def test_every_block_runs_or_says_why_not() -> None:
    for block in (block for page in pages() for block in blocks(page)):
        where = f"{block.page.name}: {block.language} {block.note}\n{block.body}"
        if block.language in ("sh", "python") or block.note.startswith("file:"):
            allowed = r"(not-run: \S.{3,}|file: [\w.]+|)" if block.note else ""
            assert re.fullmatch(allowed, block.note), where
            for named in re.findall(r"tests/\S+\.py", block.note):
                assert (ROOT / named).exists(), where
        else:
            assert block.language in OTHERS, f"say what this block is: {where}"


def test_most_blocks_run() -> None:
    shown = [b for page in pages() for b in blocks(page) if b.language in ("sh", "python")]
    left_out = [block for block in shown if block.note.startswith("not-run:")]
    assert len(left_out) < len(shown) / 2


def test_every_job_that_is_named_is_there_with_its_options() -> None:
    scripts = {script.stem: script for script in JOBS}
    texts = [path.read_text() for path in (*pages(), *(ROOT / "configs").rglob("*.yaml"))]
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
            lines += [command, 'echo "@@ $?"']
        env = {"PATH": self.path, "HOME": str(self.home)}
        done = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=2700,
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
    """With pictures in IMAGES and FOLDER, and detectors where demo and weights leave theirs."""
    assert (BIN / "imaginet").exists(), "the package is not installed: pip install -e ."
    folder, home = tmp_path / "a folder of mine", tmp_path / "home"
    home.mkdir()
    pictures(folder / "IMAGES/real", 40, noise=12.0)
    pictures(folder / "IMAGES/synthetic/smooth", 30, noise=0.0)
    pictures(folder / "IMAGES/synthetic/nearly", 30, noise=3.0)
    pictures(folder / "FOLDER", 4, noise=12.0)
    Image.open(folder / "FOLDER/000.png").save(folder / "photo.jpg")
    (folder / "broken.jpg").write_bytes(b"no image")
    saved_detector(folder / "runs/demo/detector")
    saved_detector(folder / "runs/weights/commfor")
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
    chosen = [c for c in commands(ROOT / "docs/own-data.md") if begins(c, chain)]
    ended = reader.types([*chosen, chosen[-1]])
    for one in ended:
        reader.check(one)
    assert len(ended) == 4
    assert (reader.folder / "runs/mine/train/detector/model.safetensors").exists()
    assert "(done before)" not in ended[-2].said
    assert "(done before)" in ended[-1].said


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_what_the_pages_say_runs(reader: Reader) -> None:
    chosen = [command for page in pages() for command in commands(page)]
    ended = reader.types(chosen)
    wrong = []
    for one in ended:
        try:
            reader.check(one)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n\n".join(wrong)
    assert len(ended) == len(chosen)
    report = (reader.folder / "runs/mine/report/report.html").read_text()
    assert "imaginet evaluate --detector runs/mine/detector" in report, "what is typed to repeat it"
