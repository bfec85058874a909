from collections.abc import Iterator
from pathlib import Path

import pytest

from rayapp.serve.desk import DeskSettings
from tests.detectors import saved_detector
from tests.serve.services import HereScoring, serving


@pytest.fixture(scope="session")
def detector_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny detector."""
    return saved_detector(tmp_path_factory.mktemp("serve") / "tiny")


@pytest.fixture(scope="session")
def scoring(detector_uri: str, tmp_path_factory: pytest.TempPathFactory) -> HereScoring:
    """Two detectors, in this process."""
    other = saved_detector(tmp_path_factory.mktemp("serve") / "other", seed=1)
    return HereScoring(tiny=detector_uri, other=other)


@pytest.fixture(scope="session")
def address(scoring: HereScoring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service without tokens."""
    desk = DeskSettings(str(tmp_path_factory.mktemp("output")), scoring.uris)
    with serving(scoring, desk) as found:
        yield found


@pytest.fixture(scope="session")
def odd() -> Path:
    """Awkward files, which are not part of the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared/odd").is_dir():
            return folder / "shared/odd"
    pytest.skip("the awkward files are not here (../shared/odd)")
