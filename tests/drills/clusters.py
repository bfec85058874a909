"""Clusters of several raylets on this machine, and the jobs as processes on them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 200  # for a job to begin on a loaded machine


@contextlib.contextmanager
def raylets(count: int) -> Iterator[Any]:
    """A cluster of so many nodes of one CPU each; `remove_node` kills one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "120")  # other drills may load the machine
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(count - 1):
                cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


def environment(**more: str) -> dict[str, str]:
    """Of a job as a process of its own, with this tree's package."""
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"} | more


def started(log: Path, job: str, *options: str, **env: str) -> subprocess.Popen[bytes]:
    """`jobs/JOB.py` at work, what it says in `log`."""
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *options]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment(**env), stdout=file, stderr=file)


def wait_until(process: subprocess.Popen[bytes], happened: Callable[[], object]) -> None:
    """Return once it happened; fails where the job ends before, or takes too long."""
    deadline = time.monotonic() + START_S
    while not happened():
        assert process.poll() is None, "the job ended before"
        assert time.monotonic() < deadline, "the job makes no progress"
        time.sleep(0.05)
