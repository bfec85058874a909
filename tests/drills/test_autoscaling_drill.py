"""A head without CPUs grows real nodes for a job that is handed in, and lets them go; by token."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.doubles.s3 import free_ports
from tests.drills.clusters import ROOT, environment, started
from tests.perturb.sets import make_set, outcome

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

PORT = 6379  # the provider of nodes on this machine knows no other
COUNT, DISTINCT = 3_000, 60


def autoscaler(folder: Path) -> Path:
    """A cluster file whose nodes are raylets on this machine: one CPU each, none to two."""
    none: list[str] = []
    worker = {"resources": {"CPU": 1, "object_store_memory": 200_000_000}, "node_config": {}}
    config = {
        "cluster_name": "drill",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "head_resources": {"CPU": 0},
        },
        "auth": {"ssh_user": "drill"},
        "docker": {},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu": {**worker, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "head_node": {},
        "worker_nodes": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": none,
        "rsync_exclude": none,
        "rsync_filter": none,
        "initialization_commands": none,
        "setup_commands": none,
        "head_setup_commands": none,
        "worker_setup_commands": none,
        "head_start_ray_commands": none,
        "worker_start_ray_commands": none,
    }
    path = folder / "autoscaler.json"
    path.write_text(json.dumps(config))
    return path


class Head:
    """A head node with a token; whoever lacks it is turned away."""

    def __init__(self, folder: Path) -> None:
        self.token = folder / "token"
        self.token.write_text("0123456789abcdef" * 4)
        self.wrong = folder / "wrong-token"
        self.wrong.write_text("fedcba9876543210" * 4)
        dashboard, agent = free_ports(2)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self._sockets = tempfile.mkdtemp(prefix="ray-drill-")  # paths of sockets must be short
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--num-cpus=0", f"--port={PORT}", f"--temp-dir={self._sockets}"),
            *(f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            # Its usual port may be another Ray's on this machine; without it no job is taken.
            f"--dashboard-agent-listen-port={agent}",
            *(f"--autoscaling-config={autoscaler(folder)}", "--disable-usage-stats"),
        ]
        fake = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
        with (folder / "head.txt").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(**fake), stdout=log, stderr=log
            )

    def environment(self, token: Path | None = None, **more: str) -> dict[str, str]:
        with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token or self.token)}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        env = environment(**with_token, PATH=path, **more)
        del env["PYTHONPATH"]  # the working directory that travels is what runs
        return env

    def get(self, path: str, token: Path | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {(token or self.token).read_text()}"}
        return requests.get(self.dashboard + path, headers=headers, timeout=20)

    def num_workers(self) -> int:
        nodes = self.get("/nodes?view=summary").json()["data"]["summary"]
        alive = [node["raylet"] for node in nodes if node["raylet"].get("state") == "ALIVE"]
        return sum(not node.get("isHeadNode") for node in alive)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(requests.RequestException, KeyError, ValueError):
                if self.num_workers() == 0 and self.get("/api/jobs/").status_code == 200:
                    return
            assert self._process.poll() is None, "the head did not start"
            assert time.monotonic() < deadline, "the head does not answer"
            time.sleep(0.5)

    def submit(self, *command: str, token: Path | None = None) -> subprocess.Popen[str]:
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
        submit += ["--address", self.dashboard, "--working-dir", str(ROOT), "--", *command]
        return subprocess.Popen(
            submit,
            env=self.environment(token),
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.STDOUT,
        )

    def stop(self) -> None:
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([*family, psutil.Process(self._process.pid)], timeout=15)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT} is taken: another Ray cluster runs on this machine")
    head = Head(tmp_path)
    try:
        head.wait_ready()
        yield head
    finally:
        head.stop()


def many(folder: Path) -> Path:
    """3,000 images, 60 of them distinct, and their list."""
    listed = make_set(folder, DISTINCT, (40, 90))
    lines = listed.read_text().splitlines()
    more = []
    for number in range(COUNT):
        path, _, labels = lines[number % DISTINCT].partition(",")
        name = f"images/n{number:05}{Path(path).suffix}"
        os.link(folder / path, folder / name)
        more.append(f"{name},{labels}\n")
    listed.write_text("".join(more))
    return listed


def test_nodes_come_for_the_work_and_go_after_it(head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    listed = many(folder)
    options = ["--annotations", str(listed), "--root", str(folder), "--scheme", "demo"]
    job = ["python", "jobs/perturb.py", *options, "--output", str(tmp_path / "grown")]

    refused = head.submit(*job, token=head.wrong)
    assert refused.wait(60) != 0
    assert head.get("/nodes?view=summary", head.wrong).status_code in (401, 403)
    log = tmp_path / "log.txt"
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.wrong)}
    direct = started(
        log,
        "perturb",
        *options,
        "--output",
        str(tmp_path / "refused"),
        RAY_ADDRESS=f"127.0.0.1:{PORT}",
        **wrong,
    )
    assert direct.wait(120) == 1
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"error: the Ray cluster at 127.0.0.1:{PORT} can't be used")
    assert "is its token the one in" in last
    assert "Traceback" not in log.read_text()
    assert not (tmp_path / "grown").exists()

    assert head.num_workers() == 0
    seen = {0}
    said = "No available agent"
    while "No available agent" in said:  # the head is up before it takes jobs
        submitted = head.submit(*job)
        while submitted.poll() is None:
            seen.add(head.num_workers())
            time.sleep(0.5)
        said = submitted.communicate()[0]
    assert submitted.returncode == 0, said[-4000:]
    assert max(seen) == 2
    assert head.token.read_text() not in said
    local = started(log, "perturb", *options, "--output", str(tmp_path / "local"), "--cpus", "2")
    assert local.wait(300) == 0, log.read_text()[-3000:]
    assert outcome(tmp_path / "grown")["counts"]["written"] == COUNT
    for part in ("counts", "results"):
        assert outcome(tmp_path / "grown")[part] == outcome(tmp_path / "local")[part]
    deadline = time.monotonic() + 60
    while head.num_workers():
        assert time.monotonic() < deadline, "idle nodes stay"
        time.sleep(0.5)
