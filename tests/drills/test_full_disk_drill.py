"""A disk that fills: the job says so, breaks nothing, and goes on once there is room.

The download's own drill of this is test_43_a_full_disk in test_download.py.
"""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.drills.clusters import started
from tests.drills.test_download import small_disk
from tests.drills.test_perturb_drill import pixels_without_ray
from tests.perturb.sets import make_set

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=128m", str(disk)], check=True)


def test_the_target_of_perturbation(tmp_path: Path) -> None:
    folder, log = tmp_path / "in", tmp_path / "log.txt"
    listed = make_set(folder, 120, (200, 300))
    with small_disk(tmp_path / "disk") as disk:
        output = disk / "out"
        options = ("--annotations", str(listed), "--root", str(folder), "--scheme", "demo")
        options += ("--protocol", "blur-grid", "--output", str(output), "--cpus", "2")
        assert started(log, "perturb", *options).wait(300) in (1, 3)
        said = log.read_text()
        assert "No space left on device" in said
        assert "Traceback" not in said
        assert not list(output.rglob("*.part"))
        for path in output.rglob("*.webp"):
            Image.open(path).load()  # what is there is whole
        grow(disk)
        assert started(log, "perturb", *options).wait(300) == 0, log.read_text()[-3000:]
        record = json.loads((output / "run.json").read_text())
        names = [f"images/{path.name}" for path in (folder / "images").iterdir()]
        expected = pixels_without_ray(folder, tmp_path / "bare", "blur-grid", names)
        assert record["results"]["pixels_sha256"] == expected
        assert record["counts"]["failed"] == 0
