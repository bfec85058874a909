"""The Ray that tests share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from rayapp.cluster import session


def start_ray() -> None:
    """A local Ray of 2 CPUs and a GPU in name only."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
    )
    # Ray's own handler has the test at hand exit, which fails it, and the run goes on: of a run
    # that is cut off some test would seem to fail.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def as_a_jobs_own() -> Iterator[None]:
    """The open session counts as one that the job opened, as for whoever types a command.

    Little work is then done in this process, as it is for them; else all of it goes over Ray.
    """
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(session, "_own", True)
        yield
