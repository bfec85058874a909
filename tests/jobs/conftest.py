from pathlib import Path

import pytest

from rayapp.demo.settings import DemoSettings
from rayapp.jobs.demo import run_demo


@pytest.fixture(scope="session")
def demo(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo; tests may add to it."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    run_demo(DemoSettings(output=str(folder), tiny=True))
    return folder
