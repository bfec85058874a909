"""Files from the web, from a real server."""

import pytest

from rayapp.storage import web
from tests.doubles.server import Reply, Request, Server


def test_a_busy_server_is_asked_again_when_it_says_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[str] = []

    def answer(request: Request) -> Reply:
        asked.append(request.path)
        assert "imaginet-ray" in request.headers["user-agent"]
        if request.path == "/busy" and asked.count("/busy") == 1:
            return Reply(429, {"Retry-After": "0"})
        return Reply(404) if request.path == "/gone" else Reply(body=b"data")

    with Server(answer) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert web.fetch(f"{base}/busy") == b"data"
        with pytest.raises(web.WebError, match="HTTP 404"):
            web.fetch(f"{base}/gone")
        assert asked == ["/busy", "/busy", "/gone"]
        monkeypatch.setattr(web, "MAX_BYTES", 3)
        with pytest.raises(web.WebError, match="larger than"):
            web.fetch(f"{base}/large")
    with pytest.raises(web.WebError, match="no http"):
        web.fetch("file:///etc/hostname")
