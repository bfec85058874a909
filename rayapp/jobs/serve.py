"""The service: on a Ray of its own, on a running cluster, or by `serve deploy`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import yaml

from rayapp.cluster.session import session
from rayapp.config.errors import UserError
from rayapp.dataset.declared import read_trust_list
from rayapp.jobs.predict_subject import load_subject
from rayapp.jobs.serve_detector import DetectorOrder, ServedDetector
from rayapp.models.folder import read_spec
from rayapp.predict.user_detector import SUFFIX, read_user_detector
from rayapp.run.record import digest
from rayapp.serve.app import make_app
from rayapp.serve.desk import DeskSettings, OneDesk
from rayapp.serve.incoming.tokens import Tokens, read_tokens
from rayapp.serve.incoming.web_images import WebImages
from rayapp.serve.kept_images import KeptImages
from rayapp.serve.ray_headers import CALLBACK, MIDDLEWARES
from rayapp.serve.service import Service
from rayapp.serve.settings import LOOPBACK_NAMES, ServeSettings
from rayapp.serve.sole_service import require_free, sole_service
from rayapp.storage.uris import read_uri, split_uri

_HEADER = """\
# Written by `imaginet serve --write-config`. On the cluster: serve deploy THIS_FILE
# To swap a detector without dropping a request, give another `uri` (or `state`) under user_config
# and deploy again.
"""
_MARGIN_S = 30.0  # that Ray's proxy waits beyond the service's own limits


def serve(settings: ServeSettings, again: Callable[[], ServeSettings]) -> None:
    """Run the service until Ctrl-C or SIGTERM; SIGHUP reads the settings again, and swaps.

    Args:
        settings: of the service.
        again: the settings as they are now: the file of `--config` may have changed.

    Raises:
        UserError: no such detector, or no good tokens.
        JobFailed: the cluster can't be reached.
    """
    checked(settings)
    if gone := [r for r in settings.batch_roots if "://" not in r and not os.path.isdir(r)]:
        raise UserError(f"--batch-roots {gone[0]}: no such folder")
    asked, everywhere = _Asked(), bool(os.environ.get("RAY_ADDRESS"))
    if not everywhere:
        require_free(settings.host, settings.port)
        os.environ.setdefault(CALLBACK, MIDDLEWARES)
    with sole_service(settings.output), session(settings):
        from rayapp.cluster import serving  # brings Ray Serve with it

        limits = settings.limits
        timeout_s = limits.timeout_s + limits.upload_s + _MARGIN_S
        with serving.running(settings.host, settings.port, timeout_s, everywhere):
            serving.deploy(_application(settings))
            said(settings)
            while not asked.to_end():
                _swap(settings, again, serving.deploy)


def _swap(
    started: ServeSettings, again: Callable[[], ServeSettings], deploy: Callable[[Any], None]
) -> None:
    """The running service as the settings are now; where they are wrong it stays as it is."""
    try:
        settings = again()
        if _place(settings) != _place(started):
            raise UserError("host, port and output stay while it runs; end it and start it again")
        checked(settings)
        for uri in settings.detector:  # whole: a replica that fails to load one is lost
            load_subject(uri)
        deploy(_application(settings))
    except (UserError, OSError, RuntimeError) as error:
        print(f"not swapped: {error}", file=sys.stderr, flush=True)
    else:
        said(settings)


def _place(settings: ServeSettings) -> tuple[str, int, str]:
    return settings.host, settings.port, settings.output


def _leave(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # as by Ctrl-C: what was started is ended


class _Asked:
    """What signals ask of the service; from the start on, when HUP would end the process."""

    def __init__(self) -> None:
        self._came, self._asked = threading.Event(), list[int]()
        signal.signal(signal.SIGHUP, self._note)
        signal.signal(signal.SIGTERM, _leave)

    def to_end(self) -> bool:
        """Whether it shall end, else swap; waits until one of both is asked."""
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, self._note)
        while not self._asked:
            self._came.wait()
            self._came.clear()
        if self._asked.pop(0) == signal.SIGHUP:
            return False
        signal.signal(signal.SIGINT, signal.default_int_handler)  # once more: at once
        return True

    def _note(self, number: int, _: object) -> None:
        if number != signal.SIGHUP and number in self._asked:  # once more, while it swaps
            raise KeyboardInterrupt
        self._asked.append(number)
        self._came.set()


def said(settings: ServeSettings) -> None:
    """Where the service is, and what it has."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    names = ", ".join(settings.called)
    print(f"serving {names} at http://{host}:{settings.port} (its page; API at /docs)", flush=True)
    print(f"  kill -HUP {os.getpid()} swaps changed detectors in; Ctrl-C ends", flush=True)


def checked(settings: ServeSettings) -> None:
    """Nothing where tokens, certificates and detectors can be read.

    Raises:
        UserError: one can't.
    """
    tokens = settings.tokens
    if tokens and not read_tokens(read_uri(tokens), tokens):
        raise UserError(f"{tokens}: holds no token; --add-token NAME makes one")
    read_trust_list(settings.trust_list, read_uri)
    orders_of(settings)


def orders_of(settings: ServeSettings) -> dict[str, DetectorOrder]:
    """What replicas of each detector load.

    Raises:
        UserError: no such detector.
    """
    return {
        name: DetectorOrder(
            name=name,
            uri=uri,
            state=state_of(uri),
            bf16=settings.precision == "bf16",
            batch_size=settings.batch_size,
            threads=settings.threads,
            gpus=settings.gpus_per_worker,
            trust_list=settings.trust_list,
        )
        for name, uri in zip(settings.called, settings.detector, strict=True)
    }


def state_of(uri: str) -> str:
    """Digest of a detector and of all that is recorded of it, its calibration too."""
    if uri.endswith(SUFFIX):
        return read_user_detector(uri).hash
    spec, found = read_spec(uri)
    return digest(found.encode(), spec.model_dump_json().encode())


def load_served(order: Mapping[str, Any]) -> ServedDetector:
    """The detector that is ordered."""
    return ServedDetector(DetectorOrder(**order))


def app_of(settings: ServeSettings, scoring: Any, desk: Any) -> Any:
    """The ASGI app of a front."""
    hosts = LOOPBACK_NAMES if settings.on_loopback and not settings.tokens else None
    web = WebImages(frozenset(settings.fetch_from)) if settings.fetch_from else None
    tokens = Tokens(settings.tokens) if settings.tokens else None
    kept = KeptImages(settings.keep, settings.keep_hours) if settings.keep else None
    return make_app(Service(scoring, desk, settings.limits, tokens, web, hosts, kept))


def application(arguments: Mapping[str, Any]) -> Any:
    """The service as `serve deploy` builds it, from settings as its config has them."""
    settings = ServeSettings(**arguments)
    checked(settings)
    return _application(settings)


def _application(settings: ServeSettings) -> Any:
    from rayapp.cluster import serving

    orders = {name: one.model_dump(mode="json") for name, one in orders_of(settings).items()}
    return serving.application(
        orders,
        load_served,
        partial(app_of, settings),
        OneDesk,
        (DeskSettings.of(settings),),
        _replicas(settings),
        settings.limits.queue,
    )


def _replicas(settings: ServeSettings) -> Any:
    from rayapp.cluster.capacity import capacity
    from rayapp.cluster.serving import Replicas

    bundle = {"CPU": float(settings.threads), "GPU": settings.gpus_per_worker}
    most = settings.max_replicas
    if most is None:
        most = max(settings.min_replicas, capacity().fitting(bundle) // len(settings.called))
    side_by_side = next(iter(orders_of(settings).values())).side_by_side
    return Replicas(
        settings.min_replicas,
        most,
        settings.target_ongoing_requests,
        settings.threads,
        settings.gpus_per_worker,
        side_by_side,
    )


def write_config(settings: ServeSettings) -> None:
    """Write the file that `serve deploy` takes; a detector is swapped by deploying another `uri`.

    Raises:
        UserError: no such detector; how many replicas there may be is not said.
    """
    if settings.max_replicas is None:
        raise UserError("--max-replicas: say how many there may be; the cluster is not known here")
    checked(settings)
    assert settings.write_config is not None
    store, name = split_uri(settings.write_config)
    store.put(name, _config_text(settings).encode())
    print(f"written: {settings.write_config}\n  next: serve deploy {settings.write_config}")


def _config_text(settings: ServeSettings) -> str:
    from rayapp.cluster.serving import NAME, deployment_name

    # The host is that of the file: behind it stands whoever lets requests in.
    left_out = {"write_config", "add_token", "host", "port", "cpus", "on_ray", "verbose"}
    arguments = settings.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    scaled = {
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.target_ongoing_requests,
        }
    }
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [
            {
                "name": NAME,
                "route_prefix": "/",
                "import_path": "rayapp.jobs.serve:application",
                "args": arguments | {"host": settings.host, "output": settings.output},
                "deployments": [
                    {
                        "name": deployment_name(name),
                        **scaled,
                        "user_config": order.model_dump(mode="json"),
                    }
                    for name, order in orders_of(settings).items()
                ],
            }
        ],
    }
    return _HEADER + yaml.safe_dump(config, sort_keys=False)
