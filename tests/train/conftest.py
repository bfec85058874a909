"""A tiny list of images of two kinds, and a job that trains on it in about a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from rayapp.config.yaml_files import validated
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.storage.uris import open_store
from rayapp.train.settings import TrainSettings

NUM_ITEMS = 44
PERTURBATION = """
name: tiny
steps:
  - crop: {side: 16, at: random}
  - one_of: {p: 0.5, choices: [{steps: [{noise: {variance: [3, 10]}}]}]}
  - flip: {p: 0.5}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise (real) and noise doubled in size (synthetic, of three families), and a list of them."""
    root = tmp_path_factory.mktemp("train-data")
    rng = np.random.default_rng(1)
    items = []
    for index in range(NUM_ITEMS):
        synthetic = index % 3 > 0
        side = 12 if synthetic else 24
        pixels = rng.integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
        if synthetic:
            pixels = pixels.repeat(2, 0).repeat(2, 1)
        cv2.imwrite(str(root / f"{index:02}.png"), pixels)
        code = (0, 1, 3)[index % 3] if synthetic else 4
        items.append(Item(f"{index:02}.png", f"{index:02}.png", (int(synthetic), 0, code, code)))
    write_list(open_store(root), "all.txt", items, load_scheme("demo"))
    (root / "tiny.yaml").write_text(PERTURBATION)
    return root


@pytest.fixture
def tiny(data: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    """Settings of a tiny job; keyword arguments change them, `stage1__epochs` those of a stage."""

    def made(**changes: Any) -> TrainSettings:
        stage = {
            "perturbation": str(data / "tiny.yaml"),
            "epochs": 2,
            "batch_size": 12,
            "learning_rate": 0.01,
            "warmup_epochs": 0.5,
            "optimizer": "adamw",
        }
        wanted: dict[str, Any] = {
            "annotations": [str(data / "all.txt")],
            "root": str(data),
            "output": str(tmp_path / "out"),
            "scheme": "demo",
            "architecture": {
                "backbone": "highpass-small",
                "options": {"width": 4, "depth": 3},
                "tap_depths": [0.5],
                "head": {"hidden": 8, "dropout": 0.3},
            },
            "view_size": 16,
            "embedding_size": 8,
            "stage1": dict(stage),
            "stage2": dict(stage),
        }
        for name, value in changes.items():
            first, _, second = name.partition("__")
            if second:
                wanted[first][second] = value
            else:
                wanted[first] = value
        return validated(TrainSettings, wanted, str)

    return made
