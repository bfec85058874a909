"""Ray's front door: a session of our own or an existing cluster; what it can ever hold."""

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported; a user's own values win.
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
# Ray Data would ask for one node more of each kind that is there, GPUs too; see `demand`.
os.environ.setdefault("RAY_DATA_CLUSTER_SCALING_UP_UTIL_THRESHOLD", "2")

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayapp.disk import naming
from rayapp.errors import JobFailed, UserError
from rayapp.runs import duration
from rayapp.settings import JobSettings

_OBJECT_STORE_BYTES = 1 << 30  # only small rows travel; images never do
_UNBOUNDED = 1 << 40  # workers; more than there will ever be
_MOST_ASKED = 256  # bundles at once

_kept: contextlib.ExitStack | None = None


@contextlib.contextmanager
def session(settings: JobSettings) -> Iterator[None]:
    """A Ray session for the block: the cluster at RAY_ADDRESS, else a local one of our own.

    A session that is already open is used and left so. `RAY_ADDRESS=auto` is the cluster that
    `ray start` runs on this machine, such as on the head node that a script is submitted to.

    Raises:
        JobFailed: the cluster can't be reached.
    """
    if ray.is_initialized():
        yield
    elif _kept is not None:
        _kept.enter_context(_opened(settings))
        yield
    else:
        with _opened(settings):
            yield


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """A session that a stage opens in this block stays for the next stages, to the block's end."""
    global _kept
    with contextlib.ExitStack() as stack:
        _kept = stack
        try:
            yield
        finally:
            _kept = None


@contextlib.contextmanager
def _opened(settings: JobSettings) -> Iterator[None]:
    with contextlib.nullcontext() if settings.verbose else _native_chatter_in_a_file():
        _connect(settings)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(settings: JobSettings) -> None:
    level = "INFO" if settings.verbose else "ERROR"
    common: dict[str, Any] = {"log_to_driver": settings.verbose, "logging_level": level}
    if where := os.environ.get("RAY_ADDRESS"):
        if not _answers(where):
            raise JobFailed(f"no Ray cluster answers at RAY_ADDRESS={where}")
        try:
            ray.init(address=where, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())
            if os.environ.get("RAY_AUTH_MODE") == "token":
                why += "; is its token the one in RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token?"
            raise JobFailed(f"the Ray cluster at {where} can't be used: {why}") from None
        return
    # A local session listens on loopback only; without this Ray writes a token to the home.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    # Ray Data works in a thread; glibc would unmap and map anew what a thread frees. See memory.py.
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    # One machine that sleeps or is overloaded for minutes is no lost node.
    threshold = _environment("RAY_health_check_failure_threshold", "100")
    with threshold, naming(tempfile.gettempdir()):
        ray.init(
            address="local",  # never another program's session, which would end with that program
            num_cpus=settings.cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **common,
        )


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable for the processes that the block starts, where the user did not set it."""
    given = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


def beside_driver() -> NodeAffinitySchedulingStrategy:
    """Where an actor goes that all workers ask: the driver's node, the one that may not be lost."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _answers(address: str) -> bool:
    """Whether something listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return True  # `auto` and `local` are Ray's to understand
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _native_chatter_in_a_file() -> Iterator[None]:
    """What Ray's C++ core writes to file descriptor 2 goes to a file; Python's stderr stays.

    The file is kept only where the block fails and Ray wrote something; then it is named.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    log = Path(tempfile.gettempdir(), f"imaginet-ray-{os.getpid()}.log")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    python_stderr = sys.stderr
    try:
        with open(terminal, "w", buffering=1, closefd=False) as sys.stderr:
            yield
        log.unlink(missing_ok=True)
    except (UserError, KeyboardInterrupt):
        log.unlink(missing_ok=True)
        raise
    except BaseException:
        if log.stat().st_size:
            os.write(terminal, f"Ray's own messages are in {log}\n".encode())
        else:
            log.unlink()
        raise
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = python_stderr


Bundle = Mapping[str, float]


@dataclass(frozen=True)
class Capacity:
    """The nodes that are there, and the kinds of node that there may be.

    Attributes:
        nodes: resources of each live node.
        kinds: resources of each kind of node that the autoscaler may run, and how many of them at
            most; None where nobody declares it.
    """

    nodes: Sequence[Bundle]
    kinds: Sequence[tuple[Bundle, int]] | None

    def fitting(self, bundle: Bundle) -> int:
        """So many times the bundle fits on the live nodes; no bundle is cut between two."""
        return sum(_times(node, bundle) for node in self.nodes)

    def most(self, bundle: Bundle) -> int | None:
        """So many times it fits once all nodes are there; None where that is not known."""
        if self.kinds is None:
            return None
        declared = sum(_times(kind, bundle) * count for kind, count in self.kinds)
        return max(declared, self.fitting(bundle))

    def told(self, bundle: Bundle) -> str:
        """How much there is of each of the bundle's resources: in all, and on the largest node."""
        kinds = self.kinds or [(node, 1) for node in self.nodes]
        largest = {n: max((kind.get(n, 0.0) for kind, _ in kinds), default=0.0) for n in bundle}
        total = {n: sum(kind.get(n, 0.0) * count for kind, count in kinds) for n in bundle}
        if total == largest:
            return _told(total)
        endless = any(count == _UNBOUNDED for _, count in kinds)
        return f"{_told(largest)} on one node" + ("" if endless else f", {_told(total)} in all")


def _times(node: Bundle, bundle: Bundle) -> int:
    # The small part keeps 0.1 + 0.2 of a CPU from being more than 0.3.
    fits = [node.get(name, 0.0) / need + 1e-9 for name, need in bundle.items() if need > 0]
    return int(min(fits, default=float(_UNBOUNDED)))


def capacity() -> Capacity:
    """Live nodes, and what the autoscaler's configuration allows."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if _is_local():
        return Capacity(nodes, [(node, 1) for node in nodes])
    declared = ray._private.state.state.get_cluster_config()
    kinds = [
        (dict(kind.resources), _UNBOUNDED if kind.max_count < 0 else kind.max_count)
        for kind in (declared.node_group_configs if declared else ())
        if kind.resources
    ]
    return Capacity(nodes, kinds or None)


def _is_local() -> bool:
    return not os.environ.get("RAY_ADDRESS") and len(ray.nodes()) == 1


def workers(bundle: Bundle, at_most: int) -> tuple[int, int]:
    """How many workers can run now, and once an autoscaler has brought its nodes: 1 to `at_most`.

    Where nobody declares the maximum, as in Ray 2.60 without a vendor's control plane, the second
    is `at_most`.
    """
    found = capacity()
    now = max(1, min(found.fitting(bundle), at_most))
    most = found.most(bundle)
    return now, max(now, at_most if most is None else min(most, at_most))


def require(bundle: Bundle, what: str, wait_s: float, *, count: int = 1) -> None:
    """Return once `count` workers of `bundle` resources each can run.

    Raises:
        UserError: they never can; at once where the cluster's maximum is known, else after
            `wait_s`.
    """
    asked = f"{what} asks for {f'{count} × ' if count > 1 else ''}{_told(bundle)}"
    found = capacity()
    if found.fitting(bundle) >= count:
        return
    most = found.most(bundle)
    if most is None:
        with demand(bundle, count):
            _wait(bundle, asked, wait_s, count)
    elif most < count:
        raise UserError(f"{asked}; this cluster has at most {found.told(bundle)}")


def _wait(bundle: Bundle, asked: str, wait_s: float, count: int) -> None:
    deadline = time.monotonic() + wait_s
    said = 0.0
    while (found := capacity()).fitting(bundle) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{asked}; after {duration(wait_s)} the cluster has {found.told(bundle)} "
                "(--wait-s waits longer)"
            )
        if time.monotonic() - said >= 5:
            said = time.monotonic()
            print(f"{asked}: waiting, {duration(left)} left", file=sys.stderr, flush=True)
        time.sleep(min(1.0, left))


@contextlib.contextmanager
def demand(bundle: Bundle, count: int) -> Iterator[None]:
    """While the block runs, an autoscaler sees that `count` bundles more are wanted.

    Each is a placement group that waits for its node; one that finds room gives it back within a
    second, so that it takes nothing from the work. They go with the block, or with the driver's
    death. Without an autoscaler they wait and harm nothing.
    """
    if not ray.is_initialized() or _is_local() or count <= 0:
        yield
        return
    wanted = capacity().fitting(bundle) + count
    groups: dict[str, PlacementGroup] = {}
    over = threading.Event()

    def keep_up() -> None:
        while True:
            states = placement_group_table() if groups else {}
            for name in [n for n in groups if states.get(n, {}).get("state") == "CREATED"]:
                remove_placement_group(groups.pop(name))
            missing = max(0, min(wanted - capacity().fitting(bundle), _MOST_ASKED))
            if over.wait(1.0):
                return
            for name in list(groups)[missing:]:
                remove_placement_group(groups.pop(name))
            for _ in range(missing - len(groups)):
                group = placement_group([dict(bundle)])
                groups[group.id.hex()] = group

    thread = threading.Thread(target=keep_up, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for group in groups.values():
            remove_placement_group(group)


def _told(resources: Bundle) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in sorted(resources.items()))
