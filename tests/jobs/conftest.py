from collections.abc import Iterator
from pathlib import Path

import pytest

from rayapp.demo.settings import DemoSettings
from rayapp.jobs.demo import run_demo
from tests.ray_session import as_a_jobs_own


@pytest.fixture(scope="session")
def made_demo(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    with as_a_jobs_own():
        run_demo(DemoSettings(output=str(folder), tiny=True))
    return folder


@pytest.fixture
def demo(made_demo: Path) -> Iterator[Path]:
    """The small demo; tests may add to it, as whoever types the command would."""
    with as_a_jobs_own():
        yield made_demo
