"""A service that has as much to do as it takes: each request is answered, or refused in time."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.tokens import Tokens, add_token
from rayapp.serve.refusals import Refused
from rayapp.serve.score_contract import Scored, ScoreOptions, SentImage
from rayapp.serve.settings import Limits
from tests.serve.services import serving


class Slow:
    """Scores nothing until it is let."""

    names = ("slow",)

    def __init__(self) -> None:
        self.let = threading.Event()
        self.given_up = 0
        self.begun = 0

    async def cards(self) -> list[dict[str, Any]]:
        await self._wait()
        return [{"name": "slow"}]

    async def score(
        self, name: str, images: Sequence[SentImage], options: ScoreOptions, seconds: float
    ) -> Scored:
        self.begun += 1
        await self._wait()
        rows = [{"sha256": one.sha256, "reasons": []} for one in images]
        return Scored({"hash": "", "counted_as": ""}, rows)

    async def _wait(self) -> None:
        try:
            while not self.let.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


@pytest.fixture
def slow() -> Slow:
    return Slow()


Send = Callable[..., requests.Response]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


def sender(address: str, token: str = "") -> Send:
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(count: int = 1) -> requests.Response:
        files = [("images", ("a", b"x"))] * count
        return requests.post(f"{address}/v1/score", files=files, headers=headers, timeout=60)

    return send


def begun(slow: Slow, count: int) -> None:
    for _ in range(500):
        if slow.begun >= count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(slow.begun)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(
    slow: Slow, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with serving(slow, DeskSettings(str(tmp_path), {}), limits=Limits(queue=4)) as address:
        send = sender(address)
        waiting = [pool.submit(send, 2) for _ in range(2)]
        begun(slow, 2)
        refused = send()
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert refused.json()["error"] == "as many images are under way as the service takes"
        slow.let.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert send(4).status_code == 200


def test_one_token_may_not_have_all_of_the_queue(
    slow: Slow, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    file = str(tmp_path / "tokens")
    first, second = (sender_of(file, name) for name in ("first", "second"))
    limits = Limits(queue=8, per_token=2)
    desk = DeskSettings(str(tmp_path), {})
    with serving(slow, desk, limits=limits, tokens=Tokens(file)) as address:
        waiting = [pool.submit(sender(address, first), 2)]
        begun(slow, 1)
        refused = sender(address, first)()
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        waiting.append(pool.submit(sender(address, second), 2))
        begun(slow, 2)
        slow.let.set()
        assert [one.result().status_code for one in waiting] == [200, 200]


def sender_of(file: str, name: str) -> str:
    return add_token(file, name)


def test_nothing_waits_for_ever(slow: Slow, tmp_path: Path) -> None:
    limits = Limits(timeout_s=0.3)
    with serving(slow, DeskSettings(str(tmp_path), {}), limits=limits) as address:
        answer = sender(address)()
        assert answer.status_code == 503
        assert "no answer within 0.3 s" in answer.json()["error"]
        assert "Retry-After" in answer.headers
        assert slow.given_up == 1  # whoever scored was told to stop
        slow.let.set()
        while sender(address)().status_code != 200:  # on a loaded machine 0.3 s may be too short
            pass


def test_what_goes_wrong_inside_is_told_without_its_insides(tmp_path: Path) -> None:
    class Wrong(Slow):
        async def score(self, *_: Any) -> Scored:
            raise RuntimeError("secret.png at /home/jane")

    class Lost(Slow):
        async def score(self, *_: Any) -> Scored:
            raise Refused(503, "no replica of this detector can answer now", 5)

    for scoring, status in ((Wrong(), 500), (Lost(), 503)):
        with serving(scoring, DeskSettings(str(tmp_path), {})) as address:
            answer = sender(address)()
            assert answer.status_code == status
            assert "secret" not in answer.text
            assert "Traceback" not in answer.text
            assert set(answer.json()) == {"error"}


def test_bodies_all_together_are_bounded(
    slow: Slow, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    limits = Limits(max_mb=0.1)
    with serving(slow, DeskSettings(str(tmp_path), {}), limits=limits) as address:

        def send() -> requests.Response:
            return requests.post(f"{address}/v1/score", data=bytes(90_000), timeout=60)

        waiting = [pool.submit(send) for _ in range(4)]
        begun(slow, 4)
        assert send().status_code == 503
        slow.let.set()
        assert [one.result().status_code for one in waiting] == [200] * 4
        assert send().status_code == 200


def test_what_would_take_too_long_is_refused_before_its_body_is_read(
    slow: Slow, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    # At 0.05 s an image, as is taken at first: 600 images.
    limits = Limits(timeout_s=60, queue=2000, max_images=1000)
    with serving(slow, DeskSettings(str(tmp_path), {}), limits=limits) as address:
        waiting = pool.submit(sender(address), 600)
        begun(slow, 1)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            head = f"POST /v1/score HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode())  # and no body
            answer = connection.recv(2000).decode().lower()
            assert answer.startswith("http/1.1 503 ")
            assert "retry-after: 30\r\n" in answer
            assert "connection: close\r\n" in answer
        slow.let.set()
        assert waiting.result().status_code == 200
