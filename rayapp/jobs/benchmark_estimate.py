"""What a benchmark run will take, step by step, said before it starts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayapp.benchmark import costs
from rayapp.benchmark.costs import Fleet, Work
from rayapp.benchmark.settings import BenchmarkSettings
from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.download.origins.catalogue import load_catalogue
from rayapp.jobs.benchmark import Places, Step, steps
from rayapp.run.record import RUN_FILE, START_FILE, duration
from rayapp.storage.uris import open_store, split_uri
from rayapp.train.settings import StageSettings
from rayapp.transforms.perturbations import load_perturbation

_SINGLE_FILES = {"files", "ffhq"}  # forms of which each image is a request of its own


@dataclass(frozen=True)
class Estimate:
    """One step: how far it is, and what it takes."""

    step: Step
    state: str
    work: Work


class _Counted:
    """How many images each list names: counted where the list is there, else as expected."""

    def __init__(self, at: Places) -> None:
        self._at = at
        expected, lists = at.settings.expected, at.lists
        self.train = self._of(lists.train, expected.train)
        self.head = self._of(lists.head, expected.head)
        self.tested = self._of(at.tested, expected.test)

    def _of(self, lists: tuple[str, ...], expected: int) -> int:
        """Distinct images of the lists; `expected` while one of them is not there."""
        scheme = load_scheme(self._at.settings.scheme)
        found: set[str] = set()
        for uri in lists:
            store, key = split_uri(uri)
            if store.stat(key) is None:
                if not expected and not self._at.settings.list_sources:
                    raise UserError(f"{uri}: no such file, and no list_sources that bring it")
                return expected
            found |= {item.path for item in read_list(uri, scheme).items}
        return len(found)


def estimate(settings: BenchmarkSettings) -> list[Estimate]:
    """What each step takes when nothing of it is done yet.

    Raises:
        UserError: settings of a step are wrong, or a list that is there is.
    """
    at = Places(settings)
    made = [(step, step.settings(at)) for step in steps(settings)]
    counted = _Counted(at)
    return [
        Estimate(step, _state(at, step, own), _WORK[step.name](at, own, counted))
        for step, own in made
    ]


def _state(at: Places, step: Step, made: Any) -> str:
    store = open_store(at.at(step.folder) if step.folder else at.root)
    if not store.stat(RUN_FILE):
        return "begun" if store.stat(START_FILE) else "to do"
    if step.name == "download":  # the lists are fetched to the same place
        record = json.loads(store.get(RUN_FILE))
        return "done" if record.get("settings", {}).get("sources") == made.sources else "to do"
    return "done"


def _fetched(at: Places, made: Any, counted: _Counted) -> Work:
    catalogue = load_catalogue(made.catalogue)
    total = Work()
    for source in catalogue.choose(made.sources).values():
        images = source.images or len(source.files)
        quota_s = 0.0
        origin = catalogue.origin(source.at[0].partition("://")[0])
        if origin.units_per_s and source.form in _SINGLE_FILES:
            quota_s = images * origin.request_units / origin.units_per_s
        total += costs.download(images, images * source.image_bytes, quota_s)
    return total


def _pruned(at: Places, made: Any, counted: _Counted) -> Work:
    return costs.prune(counted.train + counted.tested)


def _perturbed(at: Places, made: Any, counted: _Counted) -> Work:
    return costs.perturb(counted.tested, len(load_perturbation(made.perturbation).variant_names))


def _packed(at: Places, made: Any, counted: _Counted) -> Work:
    return costs.pack(max(counted.train, counted.head))  # the head's images are training images


def _trained(at: Places, made: Any, counted: _Counted) -> Work:
    total = Work()
    head = counted.head if made.head_annotations else counted.train
    parts: tuple[tuple[StageSettings, int], ...] = (
        (made.stage1, counted.train),
        (made.stage2, head),
    )
    for part, images in parts:
        total += costs.train(images, part.epochs, made.gpus_per_worker > 0)
    return total


def _scored(at: Places, made: Any, counted: _Counted) -> Work:
    return costs.predict(counted.tested, made.gpus_per_worker > 0)


def _guarded(at: Places, made: Any, counted: _Counted) -> Work:
    trained = max(counted.train, counted.head)  # the head's images are training images
    looks = made.guard == "look" and made.protocol == "clean"
    tested = costs.calibrate(counted.tested, looks)
    return tested + costs.calibrate(trained, looks, costs.IMAGE_BYTES)


def _cleanly(at: Places, made: Any, counted: _Counted) -> Work:
    scored = costs.predict(counted.tested, made.gpus_per_worker > 0, costs.IMAGE_BYTES)
    return scored + costs.evaluate(counted.tested)


def _read(at: Places, made: Any, counted: _Counted) -> Work:
    return costs.evaluate(counted.tested)


_WORK: Mapping[str, Callable[[Places, Any, _Counted], Work]] = {
    "lists": _fetched,
    "download": _fetched,
    "prune": _pruned,
    "perturb": _perturbed,
    "pack": _packed,
    "train": _trained,
    "predict": _scored,
    "calibrate": _guarded,
    "evaluate": _read,
    "evaluate clean": _cleanly,
    "report": _read,
}


def format_estimate(found: list[Estimate], settings: BenchmarkSettings) -> str:
    """The forecast as a table, with what it was reckoned from."""
    r = settings.reckoning
    fleet = Fleet(r.cpus, r.gpus, r.mb_per_s * 1e6)
    head = ("step", "state", "images", "GB in", "GB out", "requests", "CPU h", "GPU h")
    lines = [(*head, "takes", "limit")]
    total = sum((one.work for one in found), Work())
    for name, state, work in (*((f.step.name, f.state, f.work) for f in found), ("all", "", total)):
        seconds, limit = fleet.seconds(work)
        if name == "all":
            seconds, limit = sum(fleet.seconds(one.work)[0] for one in found), ""
        lines.append(
            (
                name,
                state,
                "" if name == "all" else f"{work.images:,}",
                f"{work.read_bytes / 1e9:,.1f}",
                f"{work.write_bytes / 1e9:,.1f}",
                f"{work.requests:,.0f}",
                f"{work.cpu_s / 3600:,.2f}",
                f"{work.gpu_s / 3600:,.2f}",
                duration(seconds),
                limit,
            )
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = enumerate(zip(line, widths, strict=True))
        padded = [c.ljust(w) if at < 2 or at == 9 else c.rjust(w) for at, (c, w) in cells]
        text.append("  ".join(padded).rstrip())
    return "\n".join(
        [
            *text,
            f"estimated with {r.cpus} CPU, {r.gpus} GPU and {r.mb_per_s:g} MB/s to the store; a "
            "step that is done is not done again",
        ]
    )
