"""Headers by which Ray's own programs steer its proxy, kept from whoever sends requests.

They would set its time limit or choose a replica, and bytes that are no UTF-8 make it answer 500.
The service's own proxy and our image ask for this by `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`.
"""

import re

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"  # read where Ray's proxy starts
MIDDLEWARES = "rayapp.serve.ray_headers:middlewares"
_STEERING = {
    b"x-request-timeout-seconds",
    b"x-request-disconnect-disabled",
    b"x-session-id",
    b"serve-multiplexed-model-id",
}
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")  # it comes back with the answer, and stands in logs


def middlewares() -> list[Middleware]:
    """What Ray's proxy puts around itself."""
    return [Middleware(WithoutRayHeaders)]


class WithoutRayHeaders:
    """An ASGI app that does not see them; of a request's id, one that is short and plain."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if "headers" in scope:
            kept = [(name, value) for name, value in scope["headers"] if _passes(name, value)]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def _passes(name: bytes, value: bytes) -> bool:
    plain = name.lower().replace(b"_", b"-")  # Ray takes both
    if plain == b"x-request-id":
        return _REQUEST_ID.fullmatch(value) is not None
    return plain not in _STEERING
