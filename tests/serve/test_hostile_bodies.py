"""The service under requests that mean harm: nothing falls over, nothing is told, nothing read."""

import io
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.web_images import WebImages
from rayapp.serve.settings import Limits
from tests.serve.hostile import SECRET, Hostile, form, request, requests
from tests.serve.services import HereScoring, serving
from tests.serve.wire import ask_all, fault

_FEW, _MANY = 78, 2000
_LIMITS = Limits(max_mb=8, timeout_s=30, upload_s=5)
_MORE_MB = 1500  # that all of them may add to the process


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file outside of every root."""
    path = tmp_path_factory.mktemp("outside") / "secret.png"
    path.write_text(SECRET)
    return path


@contextmanager
def inside() -> Iterator[tuple[int, list[Any]]]:
    """A port of loopback where nobody may call, and who called."""
    callers: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, caller = server.accept()
                except OSError:
                    return
                callers.append(caller)
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], callers


_opened: list[str] = []
_watched = ""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[0], str | bytes):
        name = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin-1")
        if _watched in name or name.startswith("/etc/passwd"):
            _opened.append(name)


sys.addaudithook(_watch)  # it stays for the process, and looks at nothing unless it is told to


def _good(at: int) -> Hostile:
    pixels = np.random.default_rng(at).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    kind = "multipart/form-data; boundary=x7Nq2"
    return Hostile("good", (request(form(sink.getvalue()), kind),))


def _survives(scoring: HereScoring, secret: Path, count: int, output: Path) -> None:
    global _watched
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    allowed = output / "allowed"
    allowed.mkdir()
    (allowed / "link.png").symlink_to(secret)
    desk = DeskSettings(str(output / "served"), scoring.uris, roots=(str(allowed),))
    web = WebImages(frozenset({"example.org", "localhost", "127.0.0.1"}))
    with (
        serving(scoring, desk, limits=_LIMITS, web=web) as address,
        inside() as (inside_port, callers),
    ):
        port = urlsplit(address).port
        assert port is not None
        _watched = secret.name
        try:
            found = ask_all(port, requests(count, str(secret), inside_port, str(allowed)))
        finally:
            _watched = ""
        (_, after), *_ = ask_all(port, [_good(0)])
    wrong = [f"{one.kind}: {why}" for one, got in found if (why := fault(one, got))]
    assert wrong == []
    assert len(found) == count
    assert callers == []
    assert _opened == []
    assert after.status == 200
    assert b'"probability":0.' in after.body
    more_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert more_mb < _MORE_MB


def test_a_few_hostile_requests(scoring: HereScoring, secret: Path, tmp_path: Path) -> None:
    _survives(scoring, secret, _FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_hostile_requests(scoring: HereScoring, secret: Path, tmp_path: Path) -> None:
    _survives(scoring, secret, _MANY, tmp_path)


def test_the_watch_sees_what_is_opened(secret: Path) -> None:
    global _watched
    _watched = secret.name
    try:
        secret.read_text()
    finally:
        _watched = ""
    assert _opened.pop().endswith(secret.name)
