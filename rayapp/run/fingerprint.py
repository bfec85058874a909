"""What a run is known by: its settings, inputs, code and versions, written, read and compared."""

import contextlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from rayapp.config.defaults import __version__
from rayapp.config.errors import NotWritable, UserError
from rayapp.config.paths import portable
from rayapp.config.renamed import with_new_names
from rayapp.config.settings import Settings
from rayapp.storage.store import Store

# Where work is done, not what is done: these never make two runs differ.
_PLACEMENT = frozenset({"output", "cpus", "address", "on_ray", "wait_s", "overwrite", "verbose"})
_SHOWN_VERSIONS = ("ray", "torch", "timm", "numpy", "pillow", "opencv-python-headless", "pyarrow")
_DECODER = "rayapp.dataset.images"
_OLD_JOBS = {"pipeline": "benchmark"}

Parts = Mapping[str, type[BaseModel]]


def fingerprint(
    settings: Settings, inputs: Mapping[str, str], placement: Collection[str] = ()
) -> dict[str, Any]:
    """What a result depends on: settings (but where the work is done), inputs, code version."""
    return {
        "settings": portable(settings.model_dump(mode="json", exclude={*_PLACEMENT, *placement})),
        "inputs": portable(dict(sorted(inputs.items()))),
        "code": __version__,
    }


def write_record(store: Store, key: str, record: Mapping[str, Any]) -> None:
    """Write what a run is known by.

    Raises:
        NotWritable: the store can't be written.
    """
    try:
        store.put(key, json.dumps(record, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        why = error.strerror or error
        if isinstance(error, FileExistsError | NotADirectoryError):
            why = "a file is in its place; give a folder"
        raise NotWritable(f"{store.root}: can't be written ({why})") from None


def read_record(
    store: Store, key: str, model: type[Settings] = Settings, parts: Parts | None = None
) -> dict[str, Any] | None:
    """The record of a run of ours, where there is one; in words of now, whoever wrote it.

    Args:
        store: where it may lie.
        key: its name there.
        model: what its settings are read as.
        parts: models of the settings' free mappings; those that `model` names if none.

    Raises:
        UserError: the store can't be read.
    """
    try:
        found = json.loads(store.get(key))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise UserError(f"{store.root}: can't be read ({error.strerror or error})") from None
    # Other tools have a run.json too; what lies beside theirs is not ours to empty.
    if not isinstance(found, dict) or not found.keys() >= {"settings", "inputs", "code"}:
        return None
    if "stage" in found:  # what a job was called in version 0.1
        found = {"job": _OLD_JOBS.get(found["stage"], found["stage"]), **found}
        found["inputs"] = {_input_of_now(name): value for name, value in found["inputs"].items()}
        with contextlib.suppress(ValueError):
            found["settings"] = with_new_names(model, found["settings"], parts)
    return found if "job" in found else None


def with_new_fields(
    found: Mapping[str, Any], settings: BaseModel, now: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of a record with fields that are newer than it, where they are at their default."""
    filled = dict(found)
    for name, field_info in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name not in now:  # it only places the work
            continue
        if name not in found:
            default = field_info.get_default(call_default_factory=True)
            filled |= {name: now[name]} if value == default else {}
        elif isinstance(value, BaseModel) and isinstance(found[name], Mapping):
            filled[name] = with_new_fields(found[name], value, now[name])
    return filled


def _input_of_now(name: str) -> str:
    old = name == "protocol" or name.startswith("protocol of stage")
    return name.replace("protocol", "perturbation", 1) if old else name


def what_differs(found: Mapping[str, Any], job: str, wanted: Mapping[str, Any]) -> list[str]:
    """What differs between a record and what is wanted now, a phrase a difference."""
    if found["job"] != job:
        return [f"job {found['job']}, now {job}"]
    said = differing_settings(found["settings"], wanted["settings"])
    said += _changed_inputs(found["inputs"], wanted["inputs"])
    if found["code"] != wanted["code"]:
        said.append(f"code version was {found['code']}, now {wanted['code']}")
    return said


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, a phrase each; JSON form on both sides."""
    return [
        f"setting {key} was {_short(before.get(key))}, now {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The inputs that differ, a phrase each: hashes would tell a reader nothing."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        called = "its input" if name == "input" else f"its input {name}"
        if name not in before:
            found.append(f"{called} was not read then")
        elif name not in now:
            found.append(f"{called} is not read any more")
        elif before[name] != now[name]:
            found.append(f"{called} has changed since")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def versions() -> dict[str, str]:
    """Versions of the interpreter and of the libraries that results depend on."""
    found = {"rayapp": __version__, "python": platform.python_version()}
    for name in _SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if _DECODER in sys.modules:  # of no other job is the decoder part of the result
        from rayapp.dataset.formats import decoder_versions

        found |= decoder_versions()
    return found
