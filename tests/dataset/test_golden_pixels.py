"""Pixels of small files of every kind, which no version of a decoder may change unseen.

The files lie beside: an encoder may change, what it once wrote does not.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rayapp.dataset.formats import decoder_versions
from rayapp.dataset.images import decode, pixel_sha256, pixels_of

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).parent / "fixtures"
GOLDEN: dict[str, str] = json.loads((FILES / "golden.json").read_text())
DECODERS = ("pillow", "opencv-python-headless", "pillow-heif", "pillow-jxl-plugin")
TELL = """
import json, sys
from rayapp.dataset.formats import decoder_versions
from tests.dataset.test_golden_pixels import hashes
print(json.dumps([hashes(), decoder_versions()]))
"""


def hashes() -> dict[str, list[str]]:
    """Of each file what the careful decoder gives, and what the fast one does."""
    found = {}
    for name in GOLDEN:
        data = (FILES / name).read_bytes()
        both = (decode(data).pixels_HWC, pixels_of(data))
        found[name] = [pixel_sha256(pixels_HWC) for pixels_HWC in both]
    return found


def test_every_kind_gives_the_pixels_that_are_on_record():
    assert hashes() == {name: [golden, golden] for name, golden in GOLDEN.items()}
    assert set(GOLDEN) | {"golden.json"} == {path.name for path in FILES.iterdir()}


def test_the_versions_of_all_decoders_are_told():
    assert decoder_versions().keys() >= {
        "libjpeg-turbo", "libwebp", "libavif", "libheif", "openjpeg", "libtiff", "littlecms",
        "zlib", "OpenCV's JPEG", "OpenCV's WEBP",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_both_ends_of_the_version_ranges_give_the_same_pixels(end: str, tmp_path: Path):
    """Of the decoders as pyproject.toml allows them; all else is this environment's."""
    ranges = (ROOT / "pyproject.toml").read_text()
    least = dict(re.findall(rf'"({"|".join(DECODERS)})>=([\d.]+)"', ranges))
    assert set(least) == set(DECODERS)
    wanted = [f"{name}=={least[name]}" if end == "oldest" else name for name in DECODERS]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary", ":all:", "--target", str(tmp_path)]
    made = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no packages to be had: {made.stderr.strip().splitlines()[-1]}")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-c", TELL],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found, versions = json.loads(ran.stdout.splitlines()[-1])
    assert (versions["pillow-heif"] == least["pillow-heif"]) or end == "newest"
    assert found == {name: [golden, golden] for name, golden in GOLDEN.items()}, versions
