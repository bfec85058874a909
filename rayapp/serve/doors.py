"""The outermost layer of the service: who may come in, headers of every answer, what is counted.

Host names are checked where the service listens on loopback, so that no page of another site can
reach it by a name of its own (DNS rebinding); other sites' pages may never ask.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rayapp.pages.service_page import CONTENT_SECURITY_POLICY
from rayapp.serve.counts import Answered
from rayapp.serve.desk import Desk
from rayapp.serve.score_contract import Row

log = logging.getLogger("ray.serve.imaginet")
_TOLD_EVERY_S = 0.2
_NOT_TAKEN = 1008  # of WebSocket: against what the service does
_GET_OF = {"HEAD": "GET"}
NOTES = "imaginet.notes"  # of a request's scope: what its handler has to tell
_COUNTED = (  # of a row
    "status",
    "logit",
    "logits",
    "format",
    "width",
    "height",
    "declared",
    "verdict",
    "reasons",
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Doors:
    """Around the whole app.

    Args:
        app: what answers.
        desk: where requests are counted.
        hosts: names by which the service may be asked; None: any.
    """

    def __init__(self, app: ASGIApp, desk: Desk, hosts: Iterable[str] | None) -> None:
        self.app, self._desk = app, desk
        self._hosts = None if hosts is None else frozenset(hosts)
        self._answered: list[Answered] = []
        self._telling: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:
                # Before it is accepted: 403. Ray's proxy fails where no code is given.
                await send({"type": "websocket.close", "code": _NOT_TAKEN})
            return
        began, status = time.perf_counter(), 0
        notes: Row = {}
        # To HEAD, whatever answers GET answers; the server leaves the body out.
        scope = {**scope, NOTES: notes, "method": _GET_OF.get(scope["method"], scope["method"])}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            if why := self._refusal(scope):
                await _answer(sending, 403, why)
            else:
                await self.app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - a request is the unit of failure; no traceback goes out
            log.error("%s: %s", type(error).__name__, _where(error))
            if not status:
                await _answer(sending, 500, "internal error; the service's log has it")
        finally:
            self._note(scope, status, time.perf_counter() - began, notes)

    def _refusal(self, scope: Scope) -> str:
        headers = dict(scope["headers"])
        named = [value for name, value in scope["headers"] if name == b"host"] or [b""]
        hosts = {_without_port(one.decode("latin-1").lower()) for one in named}
        if self._hosts is not None and hosts - self._hosts:
            return "ask by the name of this machine: http://127.0.0.1 or http://localhost"
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["method"] != "GET":
            return "pages of other sites may not ask this service"
        return ""

    def _note(self, scope: Scope, status: int, seconds: float, notes: Row) -> None:
        route = getattr(scope.get("route"), "path", "other")
        hashes = [one.get("sha256") or "?" for one in notes.get("rows", ())]
        log.info(
            "%s %s %d %.3f s%s%s",
            scope["method"],
            route,
            status,
            seconds,
            f" token={notes['token']}" if notes.get("token") else "",
            " images=" + ",".join(one[:16] for one in hashes) if hashes else "",
        )
        rows = [{name: row.get(name) for name in _COUNTED} for row in notes.get("rows", ())]
        detector = notes.get("detector", {}) and {
            name: notes["detector"][name] for name in ("hash", "counted_as")
        }
        self._answered.append(Answered(route, status, seconds, detector, rows))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        """Tell the desk of all requests of a while at once: each word costs a call."""
        while self._answered:
            await asyncio.sleep(_TOLD_EVERY_S)
            answered, self._answered = self._answered, []
            try:
                await self._desk.note(answered)
            except Exception as error:  # noqa: BLE001 - the desk starts again, and counts go on
                log.warning("%d requests not counted: %s", len(answered), type(error).__name__)


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host


async def _answer(send: Any, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    kind = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": kind})
    await send({"type": "http.response.body", "body": body})


def _where(error: BaseException) -> str:
    """The line of our code that raised; never what the error says, which may name an image."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else "?"
