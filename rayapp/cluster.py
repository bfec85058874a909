"""Ray's front door: a session of our own or an existing cluster; what it can ever hold."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported; a user's own values win.
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")

import ray

from rayapp.errors import JobFailed, UserError
from rayapp.runs import duration
from rayapp.settings import JobSettings

_OBJECT_STORE_BYTES = 1 << 30  # only small rows travel; images never do


_kept: contextlib.ExitStack | None = None


@contextlib.contextmanager
def session(settings: JobSettings) -> Iterator[None]:
    """A Ray session for the block: the cluster at RAY_ADDRESS, else a local one of our own.

    A session that is already there is used and left open.

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
    if os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(**common)
        except (ConnectionError, RuntimeError) as error:
            where = os.environ["RAY_ADDRESS"]
            raise JobFailed(f"no Ray cluster answers at RAY_ADDRESS={where}: {error}") from None
    else:
        # A local session listens on loopback only; without this Ray writes a token to the home.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            num_cpus=settings.cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **common,
        )


@contextlib.contextmanager
def _native_chatter_in_a_file() -> Iterator[None]:
    """What Ray's C++ core writes to file descriptor 2 goes to a file; Python's stderr stays.

    The file is kept only where the block fails, and then it is named.
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
        os.write(terminal, f"Ray's own messages are in {log}\n".encode())
        raise
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = python_stderr


@dataclass(frozen=True)
class Capacity:
    """Resources that are there, and the most there may be; `most` None where nobody declares it."""

    live: Mapping[str, float]
    most: Mapping[str, float] | None


def capacity() -> Capacity:
    """Live nodes, and what the autoscaler's configuration allows beside them."""
    live = ray.cluster_resources()
    if _is_local():
        return Capacity(live, live)
    declared = ray._private.state.state.get_max_resources_from_cluster_config()
    if declared is None:
        return Capacity(live, None)
    names = live.keys() | declared.keys()
    return Capacity(live, {n: max(live.get(n, 0.0), declared.get(n, 0.0)) for n in names})


def _is_local() -> bool:
    return not os.environ.get("RAY_ADDRESS") and len(ray.nodes()) == 1


def require(wanted: Mapping[str, float], what: str, wait_s: float) -> None:
    """Return once the cluster has the wanted resources.

    Raises:
        UserError: it can never have them; at once where its maximum is known, else after `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    said = 0.0
    while True:
        found = capacity()
        missing = {n: v for n, v in wanted.items() if found.live.get(n, 0.0) < v}
        if not missing:
            return
        if found.most is not None:
            never = {n: v for n, v in missing.items() if found.most.get(n, 0.0) < v}
            if never:
                raise UserError(f"{what} asks for {_told(never)}; {_bound(never, found.most)}")
            return  # the autoscaler brings them when the work asks
        left = deadline - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{what} asks for {_told(missing)}; after {duration(wait_s)} the cluster has "
                f"{_told({n: found.live.get(n, 0.0) for n in missing})} (--wait-s waits longer)"
            )
        if time.monotonic() - said >= 5:
            said = time.monotonic()
            print(f"{what}: waiting for {_told(missing)}, {duration(left)} left", flush=True)
        time.sleep(min(1.0, left))


def _told(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in sorted(resources.items()))


def _bound(never: Mapping[str, float], most: Mapping[str, float]) -> str:
    return f"this cluster has at most {_told({name: most.get(name, 0.0) for name in never})}"
