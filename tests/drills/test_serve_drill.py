"""The service on a real Ray Serve: answers, a replica killed, a detector swapped under load."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import requests
import yaml
from PIL import Image

from rayapp.jobs.serve_detector import DetectorOrder, ServedDetector
from rayapp.serve.score_contract import ScoreOptions, SentImage
from rayapp.serve.settings import ServeSettings
from tests.detectors import saved_detector
from tests.doubles.s3 import free_ports
from tests.drills.clusters import ROOT, environment
from tests.pages.browser import CHROMIUM, Tab, visit
from tests.pictures import photographed, saved
from tests.serve import hostile, page_visits
from tests.serve.wire import ask_all, fault

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    saved_detector(folder / "mine")
    saved_detector(folder / "other", seed=1)
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [saved(Image.fromarray(photographed(200, 300, seed)), "PNG") for seed in range(6)]


@dataclass
class Running:
    """A service of its own process."""

    url: str
    process: subprocess.Popen[str]

    def score(self, files: list[bytes], **query: str) -> requests.Response:
        given = [("images", (str(at), data)) for at, data in enumerate(files)]
        return requests.post(f"{self.url}/v1/score", files=given, params=query, timeout=60)

    def replicas(self, detector: str) -> list[psutil.Process]:
        found = []
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f"detector-{detector}" in " ".join(one.cmdline()):
                    found.append(one)
        return found


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    (port,) = free_ports(1)
    command = [sys.executable, str(ROOT / "jobs/serve.py"), "--port", str(port), "--cpus", "2"]
    command += ["--detector", str(folder / "mine"), str(folder / "other")]
    command += ["--output", str(folder / "out"), "--min-replicas", "1", "--max-replicas", "1"]
    process = subprocess.Popen(
        command, env=environment(), start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    running = Running(f"http://127.0.0.1:{port}", process)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving mine, other at http://127.0.0.1:")
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def expected(uri: Path, files: list[bytes]) -> tuple[str, list[float]]:
    served = ServedDetector(DetectorOrder(name="here", uri=str(uri)))
    images = [SentImage(str(at), data) for at, data in enumerate(files)]
    rows = served.score(images, ScoreOptions(), 60).images
    return served.card["hash"], [row["logit"] for row in rows]


@pytest.mark.first
def test_it_answers_as_the_detectors_do(
    service: Running, folder: Path, pictures: list[bytes]
) -> None:
    assert requests.get(f"{service.url}/readyz", timeout=10).ok
    for name in ("mine", "other"):
        digest, logits = expected(folder / name, pictures)
        found = service.score(pictures, detector=name).json()
        assert found["detector"]["hash"] == digest
        assert [row["logit"] for row in found["images"]] == pytest.approx(logits, abs=1e-6)
    asked = {"map": "1", "stability": "web"}
    row = service.score(pictures[:1], **asked).json()["images"][0]
    assert row["map"]["rows"] > 1
    assert len(row["delivered_logits"]) == 4
    assert service.score([b"none"]).json()["images"][0]["status"] == "failed"
    metrics = requests.get(f"{service.url}/metrics", timeout=10).text
    assert 'imaginet_requests_total{route="/v1/score",status="200"}' in metrics
    assert "imaginet_verdicts_total" in metrics


@dataclass
class Load:
    """Requests one after the other from some threads, and all that came of them."""

    service: Running
    files: list[bytes]
    statuses: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def _send(self) -> None:
        while not self._over.is_set():
            try:
                answer = self.service.score(self.files[:2])
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.answers.append(answer.json())
            except requests.RequestException as error:
                self.lost.append(repr(error))


def test_a_crowd_is_answered_or_told_when_to_come_again(
    service: Running, pictures: list[bytes]
) -> None:
    # More than the queue takes and what waits to be refused: what is left over the proxy refuses.
    num = 3 * ServeSettings(detector=("any",)).limits.queue

    async def ask(session: aiohttp.ClientSession, number: int) -> tuple[int, int]:
        body = pictures[number % len(pictures)]
        async with session.post(f"{service.url}/v1/score", data=body) as answer:
            await answer.read()
            return answer.status, int(answer.headers.get("Retry-After", 0))

    async def ask_at_once() -> list[tuple[int, int]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(ask(session, at) for at in range(num)))

    found = asyncio.run(ask_at_once())
    assert {status for status, _ in found} == {200, 503}
    assert all(again > 0 for status, again in found if status == 503)
    assert service.score(pictures[:1]).ok


def test_hostile_requests_are_no_fault_of_the_service(
    service: Running, pictures: list[bytes], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text(hostile.SECRET)
    (nobody,) = free_ports(1)
    wanted = hostile.requests(130, str(secret), nobody, str(tmp_path / "images"))
    found = ask_all(int(service.url.rpartition(":")[2]), wanted)
    assert [f"{one.kind}: {why}" for one, got in found if (why := fault(one, got))] == []
    refused = requests.post(f"{service.url}/v1/batches", json={"images": ["/a.png"]}, timeout=30)
    assert refused.status_code == 404  # as the desk, in another process, words it
    assert refused.json()["error"]
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert requests.get(f"{service.url}/", headers=upgrade, timeout=30).status_code == 403
    assert service.score(pictures[:1]).ok


@pytest.mark.parametrize(
    "header",
    [
        {"X-Request-Timeout-Seconds": "0.000001"},
        {"X-Request-Timeout-Seconds": b"\xff"},
        {"X-Request-Disconnect-Disabled": b"\xff"},
        {"X-Session-Id": b"\xff"},
        {"Serve-Multiplexed-Model-Id": b"\xff"},
        {"serve_multiplexed_model_id": "another"},
        {"X-Request-Id": b"\xff"},
        {"X-Request-Id": "a" * 5000},
    ],
    ids=lambda header: next(iter(header)),
)
def test_senders_do_not_steer_rays_proxy(
    service: Running, pictures: list[bytes], header: dict[str, Any]
) -> None:
    found = requests.post(f"{service.url}/v1/score", data=pictures[0], headers=header, timeout=30)
    assert found.status_code == 200
    assert found.json()["images"][0]["verdict"]
    assert len(found.headers["X-Request-Id"]) < 100


def test_the_id_of_a_request_comes_back(service: Running) -> None:
    found = requests.get(f"{service.url}/healthz", headers={"X-Request-Id": "a-1.b"}, timeout=30)
    assert found.headers["X-Request-Id"] == "a-1.b"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_twenty_images_are_dropped_on_its_page(service: Running, tmp_path: Path) -> None:
    files = page_visits.pictures(tmp_path, page_visits.NUM)

    async def work(tab: Tab) -> tuple[list[str], list[str]]:
        await tab.open(f"{service.url}/", 1280)
        await tab.drop(files, ".drop")
        await page_visits.settled(tab, len(files))
        return await tab.value(page_visits.VERDICTS), tab.complaints

    verdicts, complaints = visit(work)
    found = service.score([one.read_bytes() for one in files]).json()["images"]
    assert verdicts == [row["verdict"] for row in found]
    assert complaints == []


def test_a_replica_that_is_killed_loses_no_request(
    service: Running, folder: Path, pictures: list[bytes]
) -> None:
    _, logits = expected(folder / "mine", pictures[:2])
    with Load(service, pictures) as load:
        time.sleep(3)
        (replica,) = service.replicas("mine")
        replica.kill()
        before = len(load.answers)
        for _ in range(600):
            if len(load.answers) > before + 20 and service.replicas("mine"):
                break
            time.sleep(0.1)
    assert load.lost == []
    assert set(load.statuses) <= {200, 503}
    assert len(load.answers) > before
    for answer in load.answers:
        found = [row["logit"] for row in answer["images"]]
        assert found == pytest.approx(logits, abs=1e-6)


def test_a_detector_is_swapped_without_dropping_a_request(
    service: Running, folder: Path, pictures: list[bytes]
) -> None:
    old = expected(folder / "mine", pictures[:2])
    with Load(service, pictures) as load:
        time.sleep(2)
        saved_detector(folder / "mine", seed=2)
        new = expected(folder / "mine", pictures[:2])
        service.process.send_signal(signal.SIGHUP)
        for _ in range(600):
            if load.answers and load.answers[-1]["detector"]["hash"] == new[0]:
                break
            time.sleep(0.1)
        time.sleep(2)
    assert load.lost == []
    assert set(load.statuses) == {200}
    assert load.answers[-1]["detector"]["hash"] == new[0]
    of = {old[0]: old[1], new[0]: new[1]}
    for answer in load.answers:  # each by one of them, and by that alone
        digest = answer["detector"]["hash"]
        assert {row["detector_hash"] for row in answer["images"]} == {digest}
        found = [row["logit"] for row in answer["images"]]
        assert found == pytest.approx(of[digest], abs=1e-6)


def test_a_detector_that_is_not_whole_is_not_swapped_in(
    service: Running, folder: Path, pictures: list[bytes]
) -> None:
    before = service.score(pictures[:1], detector="other").json()["detector"]["hash"]
    (folder / "other/detector.json").write_text("{}")
    service.process.send_signal(signal.SIGHUP)
    time.sleep(3)
    assert service.score(pictures[:1], detector="other").json()["detector"]["hash"] == before


def test_the_config_for_a_cluster_is_one_that_ray_takes(folder: Path, tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    saved_detector(tmp_path / "mine")
    config = tmp_path / "serve.yaml"
    command = [sys.executable, str(ROOT / "jobs/serve.py"), "--detector", str(tmp_path / "mine")]
    command += ["--write-config", str(config), "--max-replicas", "4", "--output", str(tmp_path)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert f"serve deploy {config}" in ended.stdout
    deployed = ServeDeploySchema.model_validate(yaml.safe_load(config.read_text()))
    (app,) = deployed.applications
    assert app.deployments[0].name == "detector-mine"
    order = DetectorOrder(**app.deployments[0].user_config)
    assert order.uri == str(tmp_path / "mine")
    assert order.state
