"""The links of README, of the pages and of what lies beside them: each leads somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for folder in (".", "docs", "annotations", ".github")
    for path in (ROOT / folder).glob("*.md")
)

_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub and MyST name a heading."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in _HEADING.findall(_BLOCK.sub("", page.read_text()))}


def test_an_anchor_is_that_of_github() -> None:
    assert anchor("What a detector costs on a GPU") == "what-a-detector-costs-on-a-gpu"
    assert anchor("`ray job submit`, and so on") == "ray-job-submit-and-so-on"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = _INLINE.sub("", _BLOCK.sub("", page.read_text()))
    for link in _LINK.findall(text):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, name = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link}: no such file"
        assert not name or name in anchors(target), f"{link}: no such heading"


def test_nothing_tells_of_the_machine_that_it_was_written_on() -> None:
    """No path of a work folder, and no address of a package registry, in any file."""
    ran = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if ran.returncode:
        pytest.skip("no git here")
    told = re.compile(rb"(?<![\w.~])/(?:work|workspace)/|index-url[= ]|/simple/|\.pypi\.")
    files = [ROOT / name for name in ran.stdout.decode().split("\0") if name]
    assert len(files) > 300
    for path in files:
        if path.is_file() and path != Path(__file__):
            assert not (found := told.search(path.read_bytes())), f"{path}: {found and found[0]!r}"


def test_the_functions_that_the_python_page_names_are_there() -> None:
    names = re.findall(r"(?:`|:: )(rayapp(?:\.\w+)+)", (ROOT / "docs/python.md").read_text())
    assert len(names) > 20
    for name in names:
        module, _, attribute = name.rpartition(".")
        path = ROOT / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        defined = rf"(?:def|class) {attribute}\b|import .*\b{attribute}\b|^    {attribute},$"
        assert re.search(defined, file.read_text(), re.MULTILINE), name


def test_every_job_has_its_row() -> None:
    text = (ROOT / "README.md").read_text()
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"pipeline"}  # the old name
    assert set(re.findall(r"^\| \[?`imaginet (\w+)`", text, re.MULTILINE)) == jobs


def test_every_folder_is_in_the_picture_of_the_house() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    picture = text.partition("```text\n")[2].partition("```")[0]
    folders = {path.parent.name for path in (ROOT / "rayapp").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"(\w+)/", picture))
