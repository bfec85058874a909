# ruff: noqa: F811
"""A disk that fills: the job says so, breaks nothing, and goes on once there is room.

The download's own drill of this is test_43_a_full_disk in test_download.py.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from rayapp import load_detector
from rayapp.train.settings import TrainSettings
from tests.drills.clusters import started
from tests.drills.test_download import small_disk
from tests.drills.test_perturb_drill import pixels_without_ray
from tests.perturb.sets import make_set
from tests.train.conftest import data, tiny  # noqa: F401  fixtures, named again by the tests

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=128m", str(disk)], check=True)


def test_the_target_of_perturbation(tmp_path: Path) -> None:
    folder, log = tmp_path / "in", tmp_path / "log.txt"
    listed = make_set(folder, 120, (200, 300))
    with small_disk(tmp_path / "disk") as disk:
        output = disk / "out"
        options = ("--annotations", str(listed), "--root", str(folder), "--scheme", "demo")
        options += ("--perturbation", "blur-grid", "--output", str(output), "--cpus", "2")
        assert started(log, "perturb", *options).wait(300) in (1, 3)
        said = log.read_text()
        assert "No space left on device" in said
        assert f"{output}/" in said
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


def test_the_cache_of_features(tiny: Callable[..., TrainSettings], tmp_path: Path) -> None:
    log, config = tmp_path / "log.txt", tmp_path / "config.yaml"
    with small_disk(tmp_path / "disk") as disk:
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(9 << 20))
        settings = tiny(num_workers=0, stage1__epochs=0, feature_cache=str(disk / "features"))
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
        assert started(log, "train", "--config", str(config)).wait(200) == 1
        said = log.read_text().splitlines()[-1]
        assert said.startswith(f"error: {disk}/features/")
        assert said.endswith(": No space left on device")
        assert not list(disk.rglob("*.part"))
        filler.unlink()
        assert started(log, "train", "--config", str(config)).wait(200) == 0, log.read_text()
        assert load_detector(Path(settings.output) / "detector").spec


def test_the_checkpoints_of_training(tiny: Callable[..., TrainSettings], tmp_path: Path) -> None:
    """Ray Train's workers write them; what they say of a full disk names no file."""
    log, config = tmp_path / "log.txt", tmp_path / "config.yaml"
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(9 << 20))
        settings = tiny(num_workers=1, max_failures=0, output=str(disk / "out"))
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
        (disk / "filler").unlink()
        (disk / "filler").write_bytes(bytes((8 << 20) - (96 << 10)))
        assert started(log, "train", "--config", str(config)).wait(300) == 1
        said = log.read_text().splitlines()[-1]
        assert said.startswith("error: ")
        assert "No space left on device" in said
        assert f"{disk}/out" in said
