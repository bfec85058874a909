"""Counts of traffic as files: those of a folder add up; a calibration keeps those of its images."""

import json
from collections import Counter
from collections.abc import Mapping

from rayapp.config.errors import UserError
from rayapp.metrics.traffic import Traffic
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

TRAFFIC_FOLDER = "traffic"  # in an output of predict
REFERENCE_FILE = "reference.json"  # beside a calibrated detector: counts of its calibration images
_LIKE = b'{"kind":"imaginet traffic'
Key = tuple[str, str]  # detector, decided


def traffic_key(traffic: Traffic) -> str:
    """The name of the file that holds counts of this detector under these decisions."""
    words = (traffic.detector[:12], traffic.decided[:24])
    name = "-".join("".join(c if c.isalnum() else "_" for c in word) for word in words)
    return f"{TRAFFIC_FOLDER}/{name}.json"


def read_counts(uri: str) -> dict[Key, Traffic]:
    """The counts in a folder of such files or an output of predict, by detector and decisions.

    Raises:
        UserError: there are none.
    """
    store = open_store(uri)
    found: dict[Key, Traffic] = {}
    for stat in store.list():
        if not stat.key.endswith(".json") or stat.key.endswith(REFERENCE_FILE):
            continue
        if store.get_range(stat.key, 0, len(_LIKE)) != _LIKE:
            continue
        one = Traffic.from_json(store.get(stat.key), store.uri(stat.key))
        found.setdefault((one.detector, one.decided), Traffic(one.detector, one.decided)).merge(one)
    if not found:
        raise UserError(
            f"{uri}: holds no counts of traffic; predict and serve write them from this version on"
        )
    return found


def write_reference(store: Store, classes: Mapping[str, Traffic]) -> None:
    """Keep the counts of a calibration's images, by class."""
    texts = {name: json.loads(one.to_json()) for name, one in classes.items()}
    store.put(REFERENCE_FILE, json.dumps(texts, ensure_ascii=False).encode())


def read_reference(uri: str) -> dict[str, Traffic] | None:
    """The counts of a calibrated detector's calibration images by class; None: it kept none."""
    store = open_store(uri)
    if store.stat(REFERENCE_FILE) is None:
        return None
    where = store.uri(REFERENCE_FILE)
    try:
        found = json.loads(store.get(REFERENCE_FILE))
        texts = {str(name): json.dumps(one) for name, one in found.items()}
    except (ValueError, AttributeError):
        raise UserError(f"{where}: holds no counts of calibration images") from None
    return {name: Traffic.from_json(text, where) for name, text in texts.items()}


def num_images(traffic: Traffic) -> Counter[str]:
    """How many images each day has."""
    return Counter({day: sum(one.total().verdicts.values()) for day, one in traffic.days.items()})
