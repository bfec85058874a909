"""A tiny list of three generators, a recipe that trains on it in a second, and a search over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from rayapp.config.yaml_files import validated
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.storage.uris import open_store
from rayapp.tune.settings import TuneSettings
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")
GENERATORS = 3
PERTURBATION = """
name: tiny
steps:
  - crop: {side: 16, at: random}
  - one_of: {p: 0.5, choices: [{steps: [{noise: {variance: [3, 10]}}]}]}
  - flip: {p: 0.5}
"""
STAGE = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "optimizer": "adamw"}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise (real), and noise doubled in size by three generators; twelve photographs of it."""
    root = tmp_path_factory.mktemp("tune-data")
    rng = np.random.default_rng(1)
    items, rows = [], []
    for index in range(144):
        kind = index % 6
        synthetic = kind >= GENERATORS
        side = 12 if synthetic else 24
        pixels = rng.integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
        if synthetic:
            pixels = pixels.repeat(2, 0).repeat(2, 1)
        name = f"{index:03}.png"
        cv2.imwrite(str(root / name), pixels)
        code = kind - GENERATORS if synthetic else 4
        items.append(Item(name, name, (int(synthetic), 0, code, code)))
        rows.append({"id": name, "path": name, "group": f"photo-{index // 12}"})
    write_list(open_store(root), "all.txt", items, SCHEME)
    (root / "tiny.yaml").write_text(PERTURBATION)
    recipe = {
        "architecture": {
            "backbone": "highpass-small",
            "options": {"width": 4, "depth": 3},
            "tap_depths": [0.5],
            "head": {"hidden": 8, "dropout": 0.3},
        },
        "view_size": 16,
        "embedding_size": 8,
        "stage1": STAGE | {"perturbation": str(root / "tiny.yaml")},
        "stage2": STAGE | {"perturbation": str(root / "tiny.yaml")},
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    return root


Made = Callable[..., TuneSettings]


@pytest.fixture
def training(images: Path, tmp_path: Path) -> Made:
    """Settings of a tiny search over training; keyword arguments change them."""

    def made(**changes: Any) -> TuneSettings:
        wanted: dict[str, Any] = {
            "recipe": str(images / "recipe.yaml"),
            "annotations": [str(images / "all.txt")],
            "root": str(images),
            "manifest": str(images / "manifest.parquet"),
            "scheme": "demo",
            "folds": ["pixel shuffle" if GENERATORS > 3 else "bilinear + convolution"],
            "output": str(tmp_path / "out"),
            "trials": 3,
            "space": {
                "train.stage1.learning_rate": {"log_uniform": [0.001, 0.1]},
                "train.loss": {"choice": ["selfcon", "supcon", "ce"]},
                "train.temperature": {
                    "uniform": [0.05, 0.5],
                    "when": {"train.loss": ["selfcon", "supcon"]},
                },
            },
        }
        return validated(TuneSettings, wanted | changes, str)

    return made


@pytest.fixture
def calibrating(tmp_path: Path) -> Made:
    """Settings of a search over calibration on 300 scores that are twice too steep."""
    origins = [0, 1] * 150
    items = listed(tmp_path / "calibration.txt", origins, SCHEME)
    logits = np.random.default_rng(0).normal(2.0 * np.array(origins) - 1.0, 1.0) * 4
    detector = tiny_detector()
    groups = [f"photo-{at // 6}" for at in range(len(origins))]
    scores = saved_scores(tmp_path / "scores", detector, items, logits, SCHEME, groups)
    saved = saved_detector(tmp_path / "detector")

    def made(**changes: Any) -> TuneSettings:
        wanted: dict[str, Any] = {
            "kind": "calibrate",
            "detector": saved,
            "scores": scores,
            "annotations": [str(tmp_path / "calibration.txt")],
            "scheme": "demo",
            "output": str(tmp_path / "out"),
            "trials": 12,
            "objectives": {"nll": 1.0},
            "space": {
                "calibrate.method": {"choice": ["temperature", "platt", "isotonic"]},
                "calibrate.temperature": {
                    "log_uniform": [0.1, 20],
                    "when": {"calibrate.method": "temperature"},
                },
            },
        }
        return validated(TuneSettings, wanted | changes, str)

    return made
