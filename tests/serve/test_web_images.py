"""Images by URL: allowed hosts alone, public addresses alone, by whatever name and in any form."""

import asyncio
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.web_images import NotFetched, WebImages, is_public
from rayapp.serve.refusals import Refused
from rayapp.serve.settings import Limits
from tests.pictures import photographed, saved
from tests.serve.services import HereScoring, serving


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1",
        "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
        "localhost", "", "2130706433",
    ],
)  # fmt: skip
def test_what_is_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_outside_is(address: str) -> None:
    assert is_public(address)


def fetched(url: str, **given: Any) -> bytes:
    web = WebImages(frozenset({"pictures.example", "*.cdn.example"}), **given)
    return asyncio.run(web.fetch(url, 1000))


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://pictures.example.evil.example/a.png",
        "http://evilcdn.example/a.png",
        "http://cdn.example/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "http://2130706433/",
        "http://pictures.example@127.0.0.1/",
        "http://user:word@pictures.example/",
        "http://pictures.example:22/",
        "http://pictures.example:99999/",
        "https://pictures.example:80/",
        "file:///etc/passwd",
        "ftp://pictures.example/a",
        "gopher://pictures.example/",
        "//pictures.example/a",
        "pictures.example/a",
        "http://pictures.example/a b",
        "http://pictures.example/a\r\nX: y",
        "http://[pictures.example/",
        "http://",
        "",
    ],
)
def test_no_other_address_is_even_resolved(url: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(Refused) as told:
        fetched(url, resolve=resolve)
    assert told.value.status == 422
    assert "127.0.0.1" not in told.value.why


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], []])
def test_an_allowed_name_of_a_private_address_is_refused(found: list[str]) -> None:
    for name in ("pictures.example", "a.cdn.example", "PICTURES.example."):
        with pytest.raises(NotFetched, match="has no public address"):
            fetched(f"http://{name}/a.png", resolve=lambda host, port: found)


_ANSWERS = {
    "/large": b"x" * 2000,
    "/picture": saved(Image.fromarray(photographed(200, 200, 0)), "PNG"),
}


class Pictures(http.server.BaseHTTPRequestHandler):
    """Answers by path, and notes by which name it was asked."""

    names: list[str]

    def do_GET(self) -> None:
        self.names.append(self.headers["Host"])
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
            return
        if self.path == "/slow":
            time.sleep(0.1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(_ANSWERS.get(self.path, b"x" * 10))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port80(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server here in the place of the usual port."""
    names: list[str] = []
    handler = type("Handler", (Pictures,), {"names": names})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setitem(
        __import__("rayapp.serve.incoming.web_images", fromlist=["_PORTS"])._PORTS,
        "http",
        server.server_port,
    )
    yield names
    server.shutdown()


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(port80: list[str]) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])  # another one the second time it is asked
    given = {"resolve": lambda host, port: next(answers), "allowed": lambda ip: ip == "127.0.0.1"}
    assert fetched("http://pictures.example/a.png?x=1", **given) == b"x" * 10
    assert port80 == ["pictures.example"]
    assert next(answers) == ["10.0.0.1"]  # it was resolved once


@pytest.mark.parametrize(
    ("path", "why"), [("moved", "HTTP 302"), ("large", "larger than 0.001 MB")]
)
def test_no_redirect_and_nothing_large(port80: list[str], path: str, why: str) -> None:
    given = {"resolve": lambda host, port: ["127.0.0.1"], "allowed": lambda ip: True}
    with pytest.raises(NotFetched, match=why):
        fetched(f"http://pictures.example/{path}", **given)
    assert len(port80) == 1


def asked(scoring: HereScoring, folder: Path, paths: list[str], **limits: Any) -> requests.Response:
    """The answer to images at these paths of an allowed host."""
    web = WebImages(frozenset({"pictures.example"}), lambda *_: ["127.0.0.1"], lambda _: True)
    desk = DeskSettings(str(folder), scoring.uris)
    body = {"images": [{"url": f"http://pictures.example/{path}"} for path in paths]}
    with serving(scoring, desk, web=web, limits=Limits(**limits)) as address:
        return requests.post(f"{address}/v1/score", json=body, timeout=30)


def test_one_that_cannot_be_fetched_harms_no_other(
    port80: list[str], scoring: HereScoring, tmp_path: Path
) -> None:
    answer = asked(scoring, tmp_path, ["picture", "moved", "picture?" + "a" * 2000])
    assert answer.status_code == 200
    rows = answer.json()["images"]
    assert [row["status"] for row in rows] == ["ok", "failed", "failed"]
    assert rows[1]["error"] == "could not be fetched: HTTP 302"
    assert rows[1]["name"] == "http://pictures.example/moved"


def test_what_is_fetched_for_a_request_is_bounded_like_a_body(
    port80: list[str], scoring: HereScoring, tmp_path: Path
) -> None:
    assert asked(scoring, tmp_path, ["large"] * 3, max_mb=0.005).status_code == 413
    assert len(port80) == 3
    late = asked(scoring, tmp_path, ["slow"] * 9, upload_s=0.3)
    assert late.status_code == 408
    assert "could not be fetched within 0.3 s" in late.json()["error"]
