"""Shared by all tests: one Ray session for the marker `ray`, one S3 server."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before ray is imported: a local session would else write a token to the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"
# Nobody's own account: the workers of the session that tests share would inherit it.
os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)

import pytest
from hypothesis import settings

from tests.ddp import RankPool, prepare
from tests.doubles.clouds import Azure, Cloud, Google
from tests.doubles.s3 import S3

settings.register_profile("product", deadline=None, max_examples=60)  # machines may be loaded
settings.load_profile("product")

_PUBLISHED = Path("shared", "imaginet")  # beside the checkout, or further up
_WEIGHTS = Path("shared", "weights")
_REALSET = Path("shared", "realset")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray; only tests that ask for it start it."""
    import ray

    from tests.ray_session import start_ray

    start_ray()
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws of torch without a seed is the same, whichever tests went before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _ray_for_its_marker(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without the marker a test does what it does alone, whoever opened a session before it."""
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("ray_session")
    elif "ray" in sys.modules:
        from tests.ray_session import as_a_jobs_own

        with as_a_jobs_own():
            yield
        return
    yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the ranks' imports done by the time that a test asks for them."""
    # The collector need not walk over torch and Ray again and again: what is imported stays.
    gc.collect()
    gc.freeze()
    if any("ranks" in getattr(item, "fixturenames", ()) for item in session.items):
        prepare()


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    """Processes for tests on several ranks."""
    with RankPool() as pool:
        yield pool


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server on loopback."""
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The S3 server, with the AWS environment pointing to it."""
    from rayapp.storage.s3 import _client_of, s3_client

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    if s3_client().meta.endpoint_url != s3_server.url:
        _client_of.cache_clear()
    return s3_server


@pytest.fixture
def new_s3_client(s3: S3) -> Iterator[None]:
    """The process keeps its client; with this one a test's own AWS environment holds."""
    from rayapp.storage.s3 import _client_of

    _client_of.cache_clear()
    yield  # `s3` comes first: it makes a client of its own
    _client_of.cache_clear()


@pytest.fixture(scope="session")
def google_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A server of Google Cloud Storage on loopback."""
    with Google(tmp_path_factory.mktemp("google")) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A server of Azure Blob Storage on loopback."""
    with Azure(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def google(google_server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The server of Google Cloud Storage, with the environment pointing to it."""
    from rayapp.storage.google import _client_of

    yield from _reached(google_server, monkeypatch, _client_of.cache_clear)


@pytest.fixture
def azure(azure_server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The server of Azure Blob Storage, with the environment pointing to it."""
    from rayapp.storage.azure import _client_of

    yield from _reached(azure_server, monkeypatch, _client_of.cache_clear)


def _reached(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> Iterator[Cloud]:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    forget()  # the process keeps its client
    yield cloud
    forget()


@pytest.fixture(params=["gs", "az"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each of the two, with the environment pointing to it."""
    found: Cloud = request.getfixturevalue({"gs": "google", "az": "azure"}[request.param])
    return found


@pytest.fixture(params=["s3", "gs", "az"])
def bucket(request: pytest.FixtureRequest) -> str:
    """URI of a bucket of each kind, with the environment pointing to its server."""
    server = request.getfixturevalue({"s3": "s3", "gs": "google", "az": "azure"}[request.param])
    return f"{request.param}://{server.bucket}"


@pytest.fixture(scope="session")
def published() -> Path:
    """The published lists, which are not part of the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / _PUBLISHED).is_dir():
            return folder / _PUBLISHED
    pytest.skip(f"the published lists are not here (../{_PUBLISHED})")


@pytest.fixture(scope="session")
def taef2_folder() -> Path:
    """The weights of TAEF2, which are not part of the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / _WEIGHTS / "taef2_encoder.safetensors").is_file():
            return folder / _WEIGHTS
    pytest.skip(f"the weights of TAEF2 are not here (../{_WEIGHTS})")


@pytest.fixture(scope="session")
def realset() -> Path:
    """Real photographs and images of real generators, which are not part of the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / _REALSET / "manifest.csv").is_file():
            return folder / _REALSET
    pytest.skip(f"the set of real images is not here (../{_REALSET})")
