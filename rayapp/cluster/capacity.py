"""What a cluster holds, what it may grow to, and waiting for that."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from rayapp.config.errors import UserError
from rayapp.run.record import duration

_UNBOUNDED = 1 << 40  # workers; more than there will ever be
_MOST_ASKED = 256  # bundles at once


Bundle = Mapping[str, float]
T = TypeVar("T")


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

    def describe(self, bundle: Bundle) -> str:
        """How much there is of each of the bundle's resources: in all, and on the largest node."""
        kinds = self.kinds or [(node, 1) for node in self.nodes]
        largest = {n: max((kind.get(n, 0.0) for kind, _ in kinds), default=0.0) for n in bundle}
        total = {n: sum(kind.get(n, 0.0) * count for kind, count in kinds) for n in bundle}
        if total == largest:
            return _describe(total)
        endless = any(count == _UNBOUNDED for _, count in kinds)
        return f"{_describe(largest)} on one node" + (
            "" if endless else f", {_describe(total)} in all"
        )


def _times(node: Bundle, bundle: Bundle) -> int:
    # The small part keeps 0.1 + 0.2 of a CPU from being more than 0.3.
    fits = [node.get(name, 0.0) / need + 1e-9 for name, need in bundle.items() if need > 0]
    return int(min(fits, default=float(_UNBOUNDED)))


def capacity() -> Capacity:
    """Live nodes, and what the autoscaler's configuration allows."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if _is_local():
        return Capacity(nodes, [(node, 1) for node in nodes])
    # Ray (2.60) has no public name for what a cluster may grow to.
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
    asked = f"{what} asks for {f'{count} × ' if count > 1 else ''}{_describe(bundle)}"
    found = capacity()
    if found.fitting(bundle) >= count:
        return
    most = found.most(bundle)
    if most is None:
        with demand(bundle, count):
            _wait(bundle, asked, wait_s, count)
    elif most < count:
        raise UserError(f"{asked}; this cluster has at most {found.describe(bundle)}")


def on_worker(work: Callable[[], T], bundle: Bundle, what: str, wait_s: float) -> T:
    """What `work` gives, done once by a worker of so many CPUs and GPUs.

    Raises:
        UserError: no worker ever can; what `work` raises comes as Ray wraps it.
    """
    require(bundle, what, wait_s)
    task = ray.remote(num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0))(work)
    found: T = ray.get(task.remote())
    return found


def _wait(bundle: Bundle, asked: str, wait_s: float, count: int) -> None:
    deadline = time.monotonic() + wait_s
    noted = 0.0
    while (found := capacity()).fitting(bundle) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{asked}; after {duration(wait_s)} the cluster has {found.describe(bundle)} "
                "(--wait-s waits longer)"
            )
        if time.monotonic() - noted >= 5:
            noted = time.monotonic()
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


def _describe(resources: Bundle) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in sorted(resources.items()))
