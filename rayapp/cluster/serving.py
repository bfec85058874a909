"""The service on Ray Serve: fronts that answer HTTP, replicas of each detector, a desk.

A request goes through Ray's proxy to a front, which reads and checks it, and from there as a whole
to one replica of the detector, where its images are batched with those of other requests. So each
answer is by one detector, also while another is being swapped in: that is loaded beside the old one
in the same replica, and takes over from one request to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from rayapp.config.memory import give_freed_memory_back
from rayapp.serve.refusals import Refused

NAME = "imaginet"  # of the application
FRONT, DESK = "front", "desk"
_SPARE = 64  # requests beyond those whose images are under way: bodies on their way, pages, probes
_AGAIN_S = 5.0  # what a request is told that finds all of that taken
_DESK_REQUESTS = 1024
_REPLICA_REQUESTS = 64
_REQUESTS_PER_FRONT = 64
_UPSCALE_S, _DOWNSCALE_S = 3.0, 60.0
_GIVE_BACK_S = 20.0  # between times that a process gives the memory back that it has freed
_DRAIN_S = 120.0  # until a replica that is to go has answered what it has
Order = Mapping[str, Any]  # what a replica loads, as JSON has it


class Served(Protocol):
    """A detector that a replica has loaded."""

    card: dict[str, Any]

    @property
    def at_once(self) -> int:
        """Images of a batch."""

    def orders(self, images: Sequence[Any], options: Any, seconds: float) -> list[Any]:
        """What is to be done for a request, one an image."""

    def rows(self, orders: Sequence[Any]) -> list[dict[str, Any]]:
        """A row each, of whatever requests."""

    def answers(self, rows: Sequence[dict[str, Any]], images: Sequence[Any], options: Any) -> Any:
        """The answer to a request, of its images' rows."""


@dataclass(frozen=True)
class Replicas:
    """How many replicas of each detector, and what one takes."""

    least: int
    most: int
    target_ongoing_requests: float
    cpus: float
    gpus: float
    side_by_side: int

    @property
    def options(self) -> dict[str, Any]:
        """As a deployment takes them."""
        return {
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": _REPLICA_REQUESTS,
            "graceful_shutdown_timeout_s": _DRAIN_S,
            **_scaled(self.least, self.most, self.target_ongoing_requests),
        }


def _scaled(least: int, most: int, target: float) -> dict[str, Any]:
    if least == most:
        return {"num_replicas": least}
    scaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": target,
        "upscale_delay_s": _UPSCALE_S,
        "downscale_delay_s": _DOWNSCALE_S,
    }
    return {"autoscaling_config": scaling}


class DetectorReplica:
    """One replica of a detector; what it has loaded is replaced while it answers."""

    def __init__(self, load: Callable[[Order], Served], side_by_side: int) -> None:
        give_freed_memory_back(_GIVE_BACK_S)
        self._load = load
        self._served: Served | None = None
        # While one batch is computed, the next gathers: nothing waits for a batch to be full.
        batched = serve.batch(
            max_batch_size=1, batch_wait_timeout_s=0.0, max_concurrent_batches=side_by_side
        )
        self._row: Any = batched(self._rows)
        # Threads of their own: torch keeps memory for each thread that ever computed.
        self._scoring, self._mapping = ThreadPoolExecutor(side_by_side), ThreadPoolExecutor(1)

    async def reconfigure(self, order: Order) -> None:
        """Load what is ordered; until then the one of before answers."""
        served = await asyncio.to_thread(self._load, order)
        self._row.set_max_batch_size(served.at_once)
        self._served = served

    async def card(self) -> dict[str, Any]:
        """What is known of the detector."""
        return self._now().card

    async def score(self, images: Sequence[Any], options: Any, seconds: float) -> Any:
        """The answer to a request."""
        served = self._now()
        orders = served.orders(images, options, seconds)
        rows = await asyncio.gather(*(self._row((served, one)) for one in orders))
        threads = self._mapping if options.map else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, served.answers, rows, images, options)

    async def _rows(self, asked: list[tuple[Served, Any]]) -> list[dict[str, Any]]:
        """A row each, of requests that came together; those from before a swap by that of then."""
        found: dict[int, dict[str, Any]] = {}
        loop = asyncio.get_running_loop()
        for served in {id(one): one for one, _ in asked}.values():
            mine = [at for at, (one, _) in enumerate(asked) if one is served]
            orders = [asked[at][1] for at in mine]
            rows = await loop.run_in_executor(self._scoring, served.rows, orders)
            found |= dict(zip(mine, rows, strict=True))
        return [found[at] for at in range(len(asked))]

    def _now(self) -> Served:
        assert self._served is not None  # Ray asks nothing of a replica before it is configured
        return self._served


class RemoteScoring:
    """Detectors by name, each behind its handle."""

    def __init__(self, handles: Mapping[str, DeploymentHandle]) -> None:
        self.names = tuple(handles)
        self._handles = handles

    async def cards(self) -> list[dict[str, Any]]:
        """What is known of each detector."""
        asked = [handle.card.remote() for handle in self._handles.values()]
        return [await _awaited(one) for one in asked]

    async def score(self, name: str, images: Sequence[Any], options: Any, seconds: float) -> Any:
        """The answer of a replica; of another where the first was lost: to score changes nothing.

        Raises:
            Refused: there is none.
        """
        handle = self._handles[name]
        for last in (False, True):
            try:
                return await _awaited(handle.score.remote(images, options, seconds))
            except RayTaskError:
                raise  # the work itself failed
            except RayActorError as error:
                if last:
                    raise _none() from error
            except (BackPressureError, DeploymentUnavailableError) as error:
                raise _none() from error
        raise AssertionError("unreachable")


def _none() -> Refused:
    return Refused(503, "no replica of this detector can answer now", retry_after_s=5)


async def _awaited(response: Any) -> Any:
    """What a replica answers; whoever stops waiting has it stop too."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class RemoteDesk:
    """The desk behind its handle: each method is that of the desk itself."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def asked(*arguments: Any) -> Any:
            try:
                return await getattr(self._handle, name).remote(*arguments)
            except RayTaskError as error:
                if isinstance(error.cause, Refused):  # as if it had been refused here
                    raise error.cause from None
                raise

        return asked


@serve.ingress()
class Front:
    """A replica that answers HTTP, by an ASGI app made of the handles that it is given."""

    def __init__(
        self,
        make: Callable[[RemoteScoring, Any], Any],
        detectors: dict[str, DeploymentHandle],
        desk: DeploymentHandle,
    ) -> None:
        give_freed_memory_back(_GIVE_BACK_S)
        self._make = make
        self._parts = RemoteScoring(detectors), RemoteDesk(desk)

    def __serve_build_asgi_app__(self) -> Any:
        """The app."""
        return self._make(*self._parts)


def application(
    orders: Mapping[str, Order],
    load: Callable[[Order], Served],
    make: Callable[[RemoteScoring, Any], Any],
    desk: type,
    desk_arguments: Sequence[Any],
    replicas: Replicas,
    queue: int,
) -> serve.Application:
    """The whole service.

    Args:
        orders: what replicas of each detector load, by its name.
        load: does it.
        make: the ASGI app of a front.
        desk: class of what there is once.
        desk_arguments: of its constructor.
        replicas: of each detector.
        queue: images that a front takes at once. A few requests more reach it, to be refused in
            words; the proxy refuses those beyond, else they would pile up unread.
    """
    quiet = LoggingConfig(enable_access_log=False)  # the front writes its own lines, without names
    once = serve.deployment(
        name=DESK,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_DESK_REQUESTS,
        logging_config=quiet,
    )(desk).bind(*desk_arguments)
    detectors = {
        name: serve.deployment(
            name=deployment_name(name),
            user_config=dict(order),
            logging_config=quiet,
            **replicas.options,
        )(DetectorReplica).bind(load, replicas.side_by_side)
        for name, order in orders.items()
    }
    most_fronts = max(1, math.ceil(replicas.most * len(orders) / 8))
    front = serve.deployment(
        name=FRONT,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=queue + _SPARE,
        max_queued_requests=_SPARE,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=_AGAIN_S),
        graceful_shutdown_timeout_s=_DRAIN_S,
        logging_config=quiet,
        **_scaled(1, most_fronts, _REQUESTS_PER_FRONT),
    )(Front)
    return front.bind(make, detectors, once)


def deployment_name(detector: str) -> str:
    """Of a detector's deployment."""
    return f"detector-{detector}"


@contextlib.contextmanager
def running(host: str, port: int, timeout_s: float, everywhere: bool) -> Iterator[None]:
    """Ray Serve, listening; it ends with the block.

    Args:
        host: address to listen at.
        port: there.
        timeout_s: until the proxy gives a request up; the front does so sooner.
        everywhere: listen on every node that has replicas; else on the head alone.
    """
    location = ProxyLocation.EveryNode if everywhere else ProxyLocation.HeadOnly
    options = HTTPOptions(host=host, port=port, request_timeout_s=timeout_s)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=location, http_options=options, logging_config={"log_level": "WARNING"}
    )
    try:
        yield
    finally:
        serve.delete(NAME)  # others may have theirs on the same Ray


def deploy(app: serve.Application) -> None:
    """Run the service, or swap the running one for it; returns once all of it answers."""
    serve.run(app, name=NAME, route_prefix="/")
