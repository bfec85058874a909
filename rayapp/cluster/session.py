"""Ray's front door: a session of our own, or an existing cluster.

Ray itself, which takes seconds to import, is imported where a session is opened.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from rayapp.storage.disk import naming

if TYPE_CHECKING:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# Read by Ray when it is imported; a user's own values win.
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
# Ray Data would ask for one node more of each kind that is there, GPUs too; see `demand`.
os.environ.setdefault("RAY_DATA_CLUSTER_SCALING_UP_UTIL_THRESHOLD", "2")


_OBJECT_STORE_BYTES = 1 << 30  # only small rows travel; images never do
K = TypeVar("K")
T = TypeVar("T")
_LONG_S = 1.0  # few images are listed by then, and need no Ray

_kept: contextlib.ExitStack | None = None
_own = False  # whether the open session is one that this module opened
_demanded: tuple[JobSettings, contextlib.ExitStack] | None = None


@contextlib.contextmanager
def session(settings: JobSettings) -> Iterator[None]:
    """A Ray session for the block: the cluster at RAY_ADDRESS, else a local one of our own.

    A session that is already open is used and left so. `RAY_ADDRESS=auto` is the cluster that
    `ray start` runs on this machine, such as on the head node that a script is submitted to.

    Raises:
        JobFailed: the cluster can't be reached.
    """
    if _is_open():
        yield
    elif _kept is not None:
        _kept.enter_context(_opened(settings))
        yield
    else:
        with _opened(settings):
            yield


@contextlib.contextmanager
def on_demand(settings: JobSettings) -> Iterator[None]:
    """A session for the block that opens with the first work that needs it: see `start`, `spared`.

    Raises:
        JobFailed: the cluster can't be reached, once it is needed.
    """
    global _demanded
    with contextlib.ExitStack() as stack:
        before, _demanded = _demanded, (settings, stack)
        try:
            yield
        finally:
            _demanded = before


def start() -> None:
    """Open the session that `on_demand` promised, if none is open."""
    if _demanded is not None:
        settings, stack = _demanded
        stack.enter_context(session(settings))


def spared() -> bool:
    """Whether little work may be done in this process: none asked for Ray or a cluster.

    Where somebody else opened a session, that is asking for it.
    """
    if _demanded is None or (_is_open() and not _own):
        return False
    return not (_demanded[0].on_ray or os.environ.get("RAY_ADDRESS"))


def _is_open() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """A session that a job opens in this block stays for the next ones, to the block's end."""
    global _kept
    with contextlib.ExitStack() as stack:
        _kept = stack
        try:
            yield
        finally:
            _kept = None


@contextlib.contextmanager
def _opened(settings: JobSettings) -> Iterator[None]:
    global _own
    import ray

    with contextlib.nullcontext() if settings.verbose else _native_chatter_in_a_file():
        _connect(settings)
        _own = True
        try:
            yield
        finally:
            _own = False
            ray.shutdown()


def _connect(settings: JobSettings) -> None:
    import ray

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
        try:
            ray.init(
                address="local",  # never another program's session, which would end with that one
                num_cpus=settings.cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **common,
            )
        except OSError:
            raise  # a full disk and its like, which `naming` tells of
        except Exception as error:  # noqa: BLE001 - Ray raises just that where a process of its own does not come up
            why = " ".join(str(error).split())
            raise JobFailed(
                f"Ray does not start on this machine: {why} Is it overloaded, or out of memory? "
                "What was done is kept: run the same again"
            ) from None


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
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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


def meanwhile(settings: JobSettings, opened: contextlib.ExitStack, work: Callable[[], T]) -> T:
    """What `work` gives; if that takes long, with a Ray session that was opened meanwhile.

    Args:
        settings: of the session.
        opened: closes the session, which cluster.session later finds open.
        work: done in a thread.

    Raises:
        JobFailed: the cluster can't be reached; and what `work` raises.
    """
    found: Future[T] = Future()
    # A daemon, so that Ctrl-C need not wait for it.
    threading.Thread(target=_into, args=(found, work), daemon=True).start()
    with contextlib.suppress(TimeoutError):
        found.exception(_LONG_S)
    if not found.done():
        opened.enter_context(session(settings))
    return found.result()


def _into(found: Future[T], work: Callable[[], T]) -> None:
    try:
        found.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        found.set_exception(error)


def as_completed(tasks: Mapping[Any, K]) -> Iterator[tuple[K, Any]]:
    """What each of Ray's tasks gives, with what `tasks` calls it, as they end."""
    import ray

    pending = list(tasks)
    while pending:
        (done,), pending = ray.wait(pending, num_returns=1)
        yield tasks[done], ray.get(done)
