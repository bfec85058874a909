"""run.json: what a stage did, with which settings, code and inputs; written last, read first.

The file makes a stage resumable: where it stands and agrees, the stage is done; where its
fingerprint differs, the output belongs to another run and is not touched without `overwrite`.
"""

import hashlib
import importlib.metadata
import json
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rayapp import __version__
from rayapp.config.errors import UserError
from rayapp.config.settings import Settings
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

RUN_FILE = "run.json"
START_FILE = "started.json"
_SHOWN_VERSIONS = ("ray", "torch", "timm", "numpy", "pillow", "opencv-python-headless", "pyarrow")
# Where work is done, not what is done: these never make two runs differ.
_PLACEMENT = frozenset({"output", "cpus", "address", "wait_s", "overwrite", "verbose"})


@dataclass
class Run:
    """One stage's run: its store, fingerprint and start."""

    stage: str
    store: Store
    fingerprint: dict[str, Any]
    state: Literal["new", "resumed", "done"]
    found: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.time)

    def finish(self, counts: Mapping[str, Any], results: Mapping[str, Any] | None = None) -> None:
        """Write run.json, the mark that the stage is done, and sweep up after killed attempts."""
        record = {
            "stage": self.stage,
            **self.fingerprint,
            "counts": dict(counts),
            "results": dict(results or {}),
            "seconds": round(time.monotonic() - self._start, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": versions(),
        }
        self.store.put(RUN_FILE, json.dumps(record, indent=1, ensure_ascii=False).encode())
        self.store.delete([START_FILE])
        # A resumed run is alone here, so what is older than it is left over.
        self.store.sweep(self._started if self.state == "resumed" else 0.0)
        self.found = record
        if self.state == "done":  # a followed prefix had more
            self.state = "resumed"

    def print_summary(self, where: Mapping[str, str], then: str = "") -> None:
        """Print what a person wants to know at the end: counts, where results are, what next."""
        done = " (done before)" if self.state == "done" else ""
        seconds = self.found["seconds"]
        spent = duration(seconds) if seconds >= 1 else f"{seconds:.1f} s"
        print(f"\n{self.stage}: done in {spent}{done}")
        lines = {name: f"{value:,}" for name, value in self.counts.items()}
        lines |= {name: self.store.uri(key) for name, key in where.items()}
        width = max(map(len, lines), default=0)
        for name, value in lines.items():
            print(f"  {name:<{width}}  {value}")
        if then:
            print(f"next: {then}")

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the finished run."""
        return dict(self.found.get("counts", {}))

    @property
    def results(self) -> dict[str, Any]:
        """What else the finished run recorded."""
        return dict(self.found.get("results", {}))


def start(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, str],
    *,
    output: str,
    overwrite: bool,
    placement: frozenset[str] = frozenset(),
) -> Run:
    """Open a stage's output: new, to be resumed, or done already.

    Args:
        stage: the job's name.
        settings: all that the result depends on; fields that only place the work are ignored.
        inputs: name → sha256 of what is read.
        output: the folder's URI.
        overwrite: empty an output that belongs to another run.
        placement: the stage's own fields that only place the work.

    Raises:
        UserError: the output belongs to a run with other settings, inputs or code.
    """
    store = open_store(output)
    wanted = {
        "settings": settings.model_dump(mode="json", exclude={*_PLACEMENT, *placement}),
        "inputs": dict(sorted(inputs.items())),
        "code": __version__,
    }
    for key, state in ((RUN_FILE, "done"), (START_FILE, "resumed")):
        found = _read_json(store, key)
        if found is None:
            continue
        differences = _differences(found, wanted)
        if found["stage"] != stage:
            differences = [f"stage {found['stage']}, now {stage}"]
        if not differences:
            return Run(stage, store, wanted, state, found if state == "done" else {})  # type: ignore[arg-type]
        if not overwrite:
            differences += ["it did not finish"] * (key == START_FILE)
            raise UserError(
                f"{store.root}: holds the output of another run ({'; '.join(differences)}); "
                "give another --output, or --overwrite"
            )
        _empty(store, found)
        break
    else:
        if not overwrite and next(iter(store.list()), None) is not None:
            raise UserError(
                f"{store.root}: is not empty and holds no run of ours; "
                "give an empty --output, or --overwrite to write beside what is there"
            )
    _check_writable(store, {"stage": stage, **wanted})
    return Run(stage, store, wanted, "new")


def holds_run(store: Store) -> bool:
    """Whether a run of ours, finished or begun, lies at the top of a store."""
    return any(_read_json(store, key) is not None for key in (RUN_FILE, START_FILE))


def _empty(store: Store, found: Mapping[str, Any]) -> None:
    """Remove another run's output; cut off on the way, the folder still belongs to that run."""
    store.put(START_FILE, json.dumps(found).encode())
    store.delete([RUN_FILE])
    store.delete([stat.key for stat in list(store.list()) if stat.key != START_FILE])


def _check_writable(store: Store, record: Mapping[str, Any]) -> None:
    try:
        store.put(START_FILE, json.dumps(record, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise UserError(f"{store.root}: can't be written ({error.strerror or error})") from None


def _read_json(store: Store, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(store.get(key))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise UserError(f"{store.root}: can't be read ({error.strerror or error})") from None
    # Other tools have a run.json too; what lies beside theirs is not ours to empty.
    ours = isinstance(found, dict) and found.keys() >= {"stage", "settings", "inputs", "code"}
    return found if ours else None


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, a phrase a difference; JSON form on both sides."""
    wanted = json.loads(json.dumps(wanted))
    differences = []
    for part in ("settings", "inputs"):
        before, now = found.get(part, {}), wanted[part]
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                old, new = _short(before.get(key)), _short(now.get(key))
                differences.append(f"{part[:-1]} {key} was {old}, now {new}")
    if found.get("code") != wanted["code"]:
        differences.append(f"code version was {found.get('code')}, now {wanted['code']}")
    return differences


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def digest(*parts: bytes) -> str:
    """Hex sha256 over byte strings, each with its length: what an input's hash is made of."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def versions() -> dict[str, str]:
    """Versions of the interpreter and of the libraries that results depend on."""
    found = {"rayapp": __version__, "python": platform.python_version()}
    for name in _SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command(job: str, **options: str | Sequence[str]) -> str:
    """A job's command line to copy; what the shell would take apart is quoted."""
    words = ["python", f"jobs/{job}.py"]
    for name, given in options.items():
        words += [f"--{name.replace('_', '-')}", *([given] if isinstance(given, str) else given)]
    return shlex.join(words)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
