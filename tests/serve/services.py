"""A service in a thread: the whole app on a real socket, its detectors in this process."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from rayapp.jobs.serve_detector import DetectorOrder, ServedDetector
from rayapp.serve.app import make_app
from rayapp.serve.desk import DeskSettings, OneDesk
from rayapp.serve.score_contract import Scored, ScoreOptions, SentImage
from rayapp.serve.service import Service
from tests.doubles.s3 import free_ports


class HereScoring:
    """Detectors of this process, one request at a time."""

    def __init__(self, **uris: str) -> None:
        self.uris = uris
        self._detectors = {
            name: ServedDetector(DetectorOrder(name=name, uri=uri)) for name, uri in uris.items()
        }
        self.names = tuple(uris)
        self._thread = ThreadPoolExecutor(1)

    async def cards(self) -> list[dict[str, Any]]:
        return [one.card for one in self._detectors.values()]

    async def score(
        self, name: str, images: Sequence[SentImage], options: ScoreOptions, seconds: float
    ) -> Scored:
        loop = asyncio.get_running_loop()
        detector = self._detectors[name]
        return await loop.run_in_executor(self._thread, detector.score, images, options, seconds)


@contextlib.contextmanager
def serving(scoring: Any, desk: DeskSettings, **parts: Any) -> Iterator[str]:
    """The address of a service, made of these parts, while the block runs."""
    (port,) = free_ports(1)
    one = OneDesk(desk)
    app = make_app(Service(scoring, one, **parts))
    config = uvicorn.Config(app, port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        one.close()
