"""Who may come in: tokens, names of the service, other sites' pages; and what the log tells."""

import asyncio
import logging
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from starlette.types import Message

from rayapp.config.errors import UserError
from rayapp.serve.desk import DeskSettings, OneDesk
from rayapp.serve.doors import Doors
from rayapp.serve.incoming.tokens import Tokens, add_token, read_tokens
from rayapp.serve.refusals import Refused
from rayapp.serve.settings import LOOPBACK_NAMES
from tests.serve.services import HereScoring, serving


def test_a_refusal_goes_whole_from_process_to_process() -> None:
    found = pickle.loads(pickle.dumps(Refused(429, "too much", 7)))
    assert (found.status, found.why, found.retry_after_s) == (429, "too much", 7)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def guarded(scoring: HereScoring, tokens: Path, tmp_path: Path) -> Iterator[str]:
    tokens.touch()
    desk = DeskSettings(str(tmp_path / "out"), scoring.uris)
    with serving(scoring, desk, tokens=Tokens(str(tokens))) as address:
        yield address


def status(address: str, token: str = "", scheme: str = "Bearer") -> int:
    headers = {"Authorization": f"{scheme} {token}"} if token else {}
    return requests.get(f"{address}/v1/detectors", headers=headers, timeout=60).status_code


def test_a_token_is_good_until_its_line_is_gone(guarded: str, tokens: Path) -> None:
    first, second = (add_token(str(tokens), name) for name in ("page", "robot"))
    assert first != second
    assert first not in tokens.read_text()
    time.sleep(1.1)
    assert [status(guarded, one) for one in ("", first, second, first[:-1], "x")] == [
        401,
        200,
        200,
        401,
        401,
    ]
    assert status(guarded, first, "Basic") == 401
    tokens.write_text("".join(tokens.read_text().splitlines(keepends=True)[1:]))
    time.sleep(1.1)
    assert [status(guarded, one) for one in (first, second)] == [401, 200]
    tokens.write_text("nonsense\n")
    time.sleep(1.1)
    assert status(guarded, second) == 401


def test_what_needs_no_token(guarded: str) -> None:
    free = {
        path: requests.get(guarded + path, timeout=60).status_code for path in ("/healthz", "/docs")
    }
    assert set(free.values()) == {200}
    for method, path in (("POST", "/v1/score"), ("GET", "/metrics"), ("POST", "/v1/batches")):
        answer = requests.request(method, guarded + path, data=b"x", timeout=60)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    document = requests.get(f"{guarded}/openapi.json", timeout=60).json()
    assert document["paths"]["/v1/score"]["post"]["security"] == [{"token": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_a_file_of_tokens_says_which_line_is_wrong() -> None:
    good = f"\ufeff# mine\n\npage {'a' * 64}  # of the page\r\n"
    assert read_tokens(good.encode(), "file") == {bytes.fromhex("a" * 64): "page"}
    for wrong in ("page", "page abc", f"a b {'a' * 64}", f"page {'g' * 64}"):
        with pytest.raises(UserError, match="file:4: a line is NAME and the token's sha256"):
            read_tokens((good + wrong).encode(), "file")
    with pytest.raises(UserError, match="file: not UTF-8 text"):
        read_tokens(good.encode("utf-16"), "file")


def test_a_name_may_have_an_old_token_and_a_new_one(guarded: str, tokens: Path) -> None:
    old = add_token(str(tokens), "page")
    kept = tokens.read_text()
    tokens.unlink()
    new = add_token(str(tokens), "page")
    tokens.write_text(kept + tokens.read_text())
    time.sleep(1.1)
    assert [status(guarded, one) for one in (old, new)] == [200, 200]


def test_a_name_is_taken_once(tokens: Path) -> None:
    add_token(str(tokens), "page")
    with pytest.raises(UserError, match="has a token named page"):
        add_token(str(tokens), "page")
    with pytest.raises(UserError, match="a token's name is letters"):
        add_token(str(tokens), "two words")


def test_other_names_and_other_sites_are_refused(scoring: HereScoring, tmp_path: Path) -> None:
    desk = DeskSettings(str(tmp_path / "out"), scoring.uris)
    with serving(scoring, desk, hosts=LOOPBACK_NAMES) as address:
        port = address.rpartition(":")[2]

        def asked(method: str, **headers: str) -> int:
            url = f"{address}/healthz" if method == "GET" else f"{address}/v1/score"
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return requests.request(method, url, headers=named, data=b"x", timeout=60).status_code

        assert asked("GET") == 200
        assert asked("GET", Host=f"localhost:{port}") == 200
        assert asked("GET", Host="[::1]") == 200
        for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[::1]x"):
            assert asked("GET", Host=name) == 403
        with socket.create_connection(("127.0.0.1", int(port)), 5) as two:
            two.sendall(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n")
            assert two.recv(100).split()[1] in (b"400", b"403")
        assert asked("POST") == 200
        assert asked("POST", Sec_Fetch_Site="same-origin") == 200
        assert asked("POST", Sec_Fetch_Site="cross-site") == 403


def test_a_websocket_is_refused_as_rays_proxy_takes_it(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def nothing(*_: object) -> None:
        raise AssertionError

    doors = Doors(nothing, OneDesk(DeskSettings(str(tmp_path), {})), None)
    asyncio.run(doors({"type": "websocket"}, nothing, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_log_tells_hashes_and_no_names(address: str) -> None:
    told: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, handler = logging.getLogger("ray.serve.imaginet"), Kept()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        files = [("images", ("Jane Doe.png", b"none"))]
        requests.post(f"{address}/v1/score", files=files, timeout=60)
        requests.get(f"{address}/Jane%20Doe", timeout=60)
        while len(told) < 2:  # a line is written once its answer has gone
            time.sleep(0.01)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(told) == 2
    assert told[0].startswith("POST /v1/score 200 ")
    assert "images=140bedbf9c3f6d56" in told[0]
    assert not any("Jane" in line for line in told)
