import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from rayapp.serve.ray_headers import middlewares

Headers = list[tuple[bytes, bytes]]


def seen(headers: Headers) -> Headers:
    found: list[Headers] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["headers"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    (middleware,) = middlewares()
    around = middleware.cls(app, *middleware.args, **middleware.kwargs)
    asyncio.run(around({"type": "http", "headers": headers}, receive, send))
    return found[0]


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-timeout-seconds",
        b"X-Request-Disconnect-Disabled",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
    ],
)
def test_what_steers_rays_proxy_is_left_out(name: bytes) -> None:
    others = [(b"host", b"a"), (b"x-session", b"\xff")]
    assert seen([others[0], (name, b"1"), others[1]]) == others


@pytest.mark.parametrize("value", [b"\xff", b"", b"a b", b"a" * 129, b"a\n"])
def test_an_odd_request_id_is_left_out(value: bytes) -> None:
    assert seen([(b"x-request-id", value)]) == []


def test_a_plain_request_id_stays() -> None:
    assert seen([(b"x-request-id", b"0a-1.b:2/3")]) == [(b"x-request-id", b"0a-1.b:2/3")]
