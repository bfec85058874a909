"""Ray started while something else that takes long is done, such as listing a large prefix."""

import contextlib
import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import ray

from rayapp import cluster
from rayapp.settings import JobSettings

T = TypeVar("T")
_LONG_S = 0.5


def meanwhile(
    settings: JobSettings, opened: contextlib.ExitStack, work: Callable[[], T], module: str
) -> T:
    """What `work` gives; if that takes long, with a Ray session that was opened meanwhile.

    Args:
        settings: of the session.
        opened: closes the session, which cluster.session later finds open.
        work: done in a thread.
        module: what the stage's workers run; those of a session of our own import it early.

    Raises:
        JobFailed: the cluster can't be reached; and what `work` raises.
    """
    found: Future[T] = Future()
    # A daemon, so that Ctrl-C need not wait for it.
    threading.Thread(target=_into, args=(found, work), daemon=True).start()
    with contextlib.suppress(TimeoutError):
        found.exception(_LONG_S)
    if not found.done():
        opened.enter_context(cluster.session(settings))
        if not os.environ.get("RAY_ADDRESS"):
            # Ray starts a process a CPU, and gives these to the workers that come.
            task = ray.remote(num_cpus=1, max_retries=0)(_import)
            for _ in range(int(ray.cluster_resources().get("CPU", 0))):
                task.remote(module)
    return found.result()


def _into(found: Future[T], work: Callable[[], T]) -> None:
    try:
        found.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        found.set_exception(error)


def _import(module: str) -> None:
    importlib.import_module(module)
