"""What a cluster can ever hold, and sessions: one of our own, one that is there, one elsewhere."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from rayapp.cluster.capacity import Capacity, capacity, demand, require
from rayapp.cluster.session import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from tests.ray_session import start_ray

ROOT = Path(__file__).parents[2]
TWO = [{"CPU": 2.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 1.0}]


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bundle", "times"),
    [
        ({"CPU": 1}, 4),
        ({"CPU": 2}, 2),
        ({"CPU": 3}, 0),
        ({"CPU": 0.3}, 12),
        ({"CPU": 0.1}, 40),
        ({"CPU": 1, "GPU": 1}, 1),
        ({"GPU": 0.5}, 2),
        ({"CPU": 0.5, "GPU": 0.25}, 4),
        ({"TPU": 1}, 0),
    ],
)
def test_no_bundle_is_cut_between_two_nodes(bundle: dict[str, float], times: int) -> None:
    assert Capacity(TWO, None).fitting(bundle) == times


def test_what_there_may_be() -> None:
    assert Capacity(TWO, None).most({"CPU": 1}) is None
    declared = Capacity(TWO, [({"CPU": 2.0}, 3), ({"CPU": 16.0, "GPU": 4.0}, 2)])
    assert declared.most({"CPU": 1}) == 38
    assert declared.most({"CPU": 4}) == 8
    assert declared.most({"GPU": 1}) == 8
    assert declared.most({"CPU": 17}) == 0
    assert Capacity(TWO, [({"CPU": 1.0}, 1)]).most({"CPU": 2}) == 2  # what is there is there


def test_capacity_is_told() -> None:
    assert Capacity(TWO[:1], None).describe({"CPU": 3}) == "2 CPU"
    assert Capacity(TWO, None).describe({"CPU": 3}) == "2 CPU on one node, 4 CPU in all"
    assert (
        Capacity(TWO, [({"CPU": 8.0}, 5)]).describe({"CPU": 9})
        == "8 CPU on one node, 40 CPU in all"
    )
    assert Capacity(TWO, [({"CPU": 8.0}, 1 << 40)]).describe({"CPU": 9}) == "8 CPU on one node"
    assert Capacity(TWO[:1], None).describe({"GPU": 1}) == "0 GPU"


# --- one local session --------------------------------------------------------------------------


@pytest.mark.ray
def test_a_local_session_is_known_whole() -> None:
    found = capacity()
    assert [node["CPU"] for node in found.nodes] == [2.0]
    assert found.most({"CPU": 1}) == 2
    require({"CPU": 1}, "perturb", 0, count=2)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("bundle", "count", "said"),
    [
        ({"CPU": 64}, 1, "train asks for 64 CPU; this cluster has at most 2 CPU"),
        ({"CPU": 1}, 3, "train asks for 3 × 1 CPU; this cluster has at most 2 CPU"),
        (
            {"CPU": 1, "GPU": 2},
            1,
            "train asks for 1 CPU, 2 GPU; this cluster has at most 2 CPU, 1 GPU",
        ),
    ],
)
def test_what_can_never_be_is_refused_at_once(
    bundle: dict[str, float], count: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        require(bundle, "train", 600, count=count)
    assert str(caught.value) == said  # after a wait it would say how long that was
    assert "waiting" not in capsys.readouterr().err


@pytest.mark.ray
def test_what_ray_does_not_name_in_public_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayapp.cluster.capacity._is_local", lambda: False)
    assert capacity().kinds is None  # nobody declares what this cluster may grow to


@pytest.mark.ray
def test_a_session_that_is_there_is_used_and_left_open() -> None:
    with session(JobSettings(output="unused", cpus=1)):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_run_that_is_cut_off_ends_and_fails_no_test() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


# --- sessions of their own ----------------------------------------------------------------------

JOB = """
import sys
import ray
from rayapp.cluster.session import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from rayapp.config.command_line import run_job
from tests.ray_session import start_ray

def job(settings):
    with session(settings):
        print("CPUs", ray.cluster_resources()["CPU"], flush=True)
        print("still shown", file=sys.stderr)
        if settings.output.endswith("wrong"):
            raise UserError("wrong use inside a session")
    print("closed", not ray.is_initialized())

run_job(JobSettings, job)
"""


def _job(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    script = folder / "job.py"
    script.write_text(JOB)
    kept = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "RAY_AUTH_MODE"}}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment},
    )


@pytest.mark.drill
def test_a_session_of_our_own_is_silent_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    done = _job(tmp_path, "--output", "o", "--cpus", "1")
    assert (done.returncode, done.stdout) == (0, "CPUs 1.0\nclosed True\n")
    assert done.stderr == "still shown\n"
    assert [found.name for found in tmp_path.iterdir()] == ["job.py"]


@pytest.mark.drill
def test_wrong_use_inside_a_session_is_one_line(tmp_path: Path) -> None:
    done = _job(tmp_path, "--output", "wrong", "--cpus", "1")
    assert done.returncode == 2
    assert done.stderr == "still shown\nerror: wrong use inside a session\n"


@pytest.mark.drill
def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = _job(tmp_path, "--output", "o", RAY_ADDRESS="127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr == "error: no Ray cluster answers at RAY_ADDRESS=127.0.0.1:9\n"


@pytest.mark.drill
def test_a_cluster_on_this_machine_is_used_where_it_is_asked_for_only(tmp_path: Path) -> None:
    folder = Path("/tmp", f"ray-{os.getpid()}")  # sockets take short paths only
    environment = {"RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled"}
    folder.mkdir()
    head = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--num-cpus=3", "--port=0", "--include-dashboard=false"),
        ],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not any(folder.rglob("ray_current_cluster")) and time.monotonic() < deadline:
            time.sleep(0.5)
        found = _job(tmp_path, "--output", "o", RAY_ADDRESS="auto", **environment)
        own = _job(tmp_path, "--output", "o", "--cpus", "1", **environment)
    finally:
        head.terminate()
        head.wait(60)
    assert (found.returncode, found.stdout) == (0, "CPUs 3.0\nclosed True\n"), found.stderr
    assert (own.returncode, own.stdout) == (0, "CPUs 1.0\nclosed True\n"), own.stderr


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes of 1 and 2 CPUs that say nothing of how many there may be."""
    shared = ray.is_initialized()
    if shared:
        ray.shutdown()
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=2)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    if shared:  # other tests go on with it
        start_ray()


@pytest.mark.drill
def test_unknown_maximum_waits_and_ends(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with session(JobSettings(output="unused", verbose=True)):
        assert capacity().kinds is None
        require({"CPU": 1}, "train", 0, count=3)
        start = time.monotonic()
        with pytest.raises(UserError) as caught:
            require({"CPU": 3}, "train", 6)
        assert time.monotonic() - start >= 6
        assert str(caught.value) == (
            "train asks for 3 CPU; after 6 s the cluster has 2 CPU on one node, 3 CPU in all "
            "(--wait-s waits longer)"
        )
        assert capsys.readouterr().err.count("train asks for 3 CPU: waiting, ") == 2

        cluster.add_node(num_cpus=3)
        require({"CPU": 3}, "train", 60)

        with demand({"CPU": 1}, 40):
            deadline = time.monotonic() + 60
            while pending() < 34:  # six find room
                assert time.monotonic() < deadline, "nothing is asked for"
                time.sleep(0.2)
            while ray.available_resources().get("CPU", 0) < 6:
                assert time.monotonic() < deadline, "the groups keep what the work needs"
                time.sleep(0.2)
            cluster.add_node(num_cpus=4)
            while not 30 <= pending() <= 36:  # four fewer are wanted, up to ten find room
                assert time.monotonic() < deadline, "what has come is asked for again"
                time.sleep(0.2)
        assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


def pending() -> int:
    """Placement groups that wait."""
    return sum(group["state"] == "PENDING" for group in placement_group_table().values())


def test_where_ray_does_not_come_up_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does, word for word

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Another test's session may be open, and one that is open is used.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)  # a machine too busy for it can't be had at will
    why = r"Ray does not start.*timed out.*run the same again"
    with pytest.raises(JobFailed, match=why), session(JobSettings(output="unused")):
        raise AssertionError("not reached")
