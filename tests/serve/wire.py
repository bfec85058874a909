"""Sends bytes as they are to a service, and says what came back."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tests.serve.hostile import SECRET, Hostile

_AT_ONCE = 8
_PATIENCE_S = 60.0
_MOST_ANSWER = 4 << 20
_TELLS = (b"Traceback (most recent", b'File "/', b"root:x:0:", SECRET.encode())
BUSY = 503


@dataclass(frozen=True)
class Answer:
    """`status` 0: the connection was closed without one; -1: nothing came in time."""

    status: int
    headers: dict[str, str]
    body: bytes


async def _ask(port: int, one: Hostile) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in one.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(one.pause_s)
        if one.may_wait:  # nothing more will come
            writer.write_eof()
    except (ConnectionError, OSError):
        pass  # refused before all was sent: the answer, if any, is still to be read
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await _read(reader, is_head=one.pieces[0].startswith(b"HEAD"))
    except TimeoutError:
        return Answer(-1, {}, b"")
    except (ConnectionError, asyncio.IncompleteReadError):
        return Answer(0, {}, b"")
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, is_head: bool) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if is_head:
        body = b""
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read(_MOST_ANSWER)
    return Answer(int(first.split()[1]), headers, body)


async def _ask_all(port: int, wanted: Iterable[Hostile]) -> list[tuple[Hostile, Answer]]:
    slots = asyncio.Semaphore(_AT_ONCE)
    found: list[tuple[Hostile, Answer]] = []

    async def ask(one: Hostile) -> None:
        try:
            found.append((one, await _ask(port, one)))
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for one in wanted:
            await slots.acquire()
            group.create_task(ask(one))
    return found


def ask_all(port: int, wanted: Iterable[Hostile]) -> list[tuple[Hostile, Answer]]:
    """What came back to each; some at once, as they come."""
    return asyncio.run(_ask_all(port, wanted))


def fault(one: Hostile, answer: Answer) -> str:
    """What is wrong with an answer; `` where it is as it should be."""
    if told := [tell for tell in _TELLS if tell in answer.body]:
        return f"tells {told[0]!r}"
    if answer.status >= 500 and answer.status != BUSY:
        return f"status {answer.status}"
    if answer.status == BUSY and "retry-after" not in answer.headers:
        return "busy, without Retry-After"
    if one.kind == "inside: batch" and answer.status < 400:
        return "a batch of what is not allowed was taken"
    if answer.status < 0:
        return "no answer in time"
    if answer.status == 0 and not (one.may_wait or one.kind.startswith(("length", "headers"))):
        return "closed without an answer"
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    if answer.status >= 400 and is_json:
        said = json.loads(answer.body or b'{"error": "of a HEAD"}')["error"]
        if "\n" in said or not 0 < len(said) < 500:
            return f"not one line: {said[:80]!r}"
    return ""
