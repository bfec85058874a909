"""Load for the service, from a process of its own: requests of some images each, counted by code.

    python -m benchmarks.serve_load URL FOLDER --seconds 10 --connections 4 --images 8
    python -m benchmarks.serve_load URL FOLDER --seconds 10 --rate 20

With `--connections` each sends its next request once the last is answered; with `--rate` so many
requests a second are begun whatever becomes of those before. The last line is JSON: requests and
images by status, requests that got no answer, and seconds (median, 99th percentile) of those that
got status 200. Each answer is checked to be of the images that its request sent.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

_ANSWER_S = 120.0


@dataclass
class Sent:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    images: int = 0
    lost: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    def told(self, elapsed_s: float) -> dict[str, object]:
        """As JSON."""
        of = np.array(self.seconds or [np.nan])
        return {
            "statuses": {str(code): count for code, count in sorted(self.statuses.items())},
            "lost": self.lost,
            "wrong": self.wrong,
            "images_per_s": self.images / elapsed_s,
            "requests_per_s": self.statuses[200] / elapsed_s,
            "p50_s": float(np.quantile(of, 0.5)),
            "p99_s": float(np.quantile(of, 0.99)),
        }


def bodies(folder: Path, images: int) -> Iterator[tuple[list[bytes], list[str]]]:
    """Files of one request after the other, and their hashes, for ever."""
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    hashes = [hashlib.sha256(data).hexdigest() for data in files]
    at = itertools.cycle(range(len(files)))
    while True:
        some = list(itertools.islice(at, images))
        yield [files[one] for one in some], [hashes[one] for one in some]


async def send(
    session: aiohttp.ClientSession, url: str, files: list[bytes], hashes: list[str], sent: Sent
) -> None:
    """One request, and what became of it."""
    began = time.perf_counter()
    given: dict[str, object]
    if len(files) == 1:
        given = {"data": files[0], "headers": {"Content-Type": "application/octet-stream"}}
    else:
        form = aiohttp.FormData()
        for data in files:
            form.add_field("images", data, filename="image")
        given = {"data": form}
    try:
        async with session.post(f"{url}/v1/score", **given) as answer:  # type: ignore[arg-type]
            body = await answer.read()
            sent.statuses[answer.status] += 1
            if answer.status == 200:
                sent.seconds.append(time.perf_counter() - began)
                sent.images += len(files)
                found = [row["sha256"] for row in json.loads(body)["images"]]
                sent.wrong += found != hashes
    except (aiohttp.ClientError, TimeoutError, ValueError):
        sent.lost += 1


async def closed(url: str, folder: Path, seconds: float, connections: int, images: int) -> Sent:
    """Each connection sends one request after the other."""
    sent, ends, todo = Sent(), time.perf_counter() + seconds, bodies(folder, images)

    async def one() -> None:
        while time.perf_counter() < ends:
            await send(session, url, *next(todo), sent)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_S)) as session:
        await asyncio.gather(*(one() for _ in range(connections)))
    return sent


async def open_loop(url: str, folder: Path, seconds: float, rate: float, images: int) -> Sent:
    """So many requests a second are begun, evenly."""
    sent, todo, tasks = Sent(), bodies(folder, images), set()
    limits = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(_ANSWER_S)
    async with aiohttp.ClientSession(connector=limits, timeout=timeout) as session:
        began = time.perf_counter()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            task = asyncio.create_task(send(session, url, *next(todo), sent))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--images", type=int, default=1, help="of a request")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rate", type=float, help="requests a second; none: as fast as answered")
    given = parser.parse_args()
    began = time.perf_counter()
    if given.rate:
        work = open_loop(given.url, given.folder, given.seconds, given.rate, given.images)
    else:
        work = closed(given.url, given.folder, given.seconds, given.connections, given.images)
    sent = asyncio.run(work)
    print(json.dumps(sent.told(time.perf_counter() - began)))


if __name__ == "__main__":
    main()
