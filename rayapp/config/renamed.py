"""Fields that have a new name: the old one is taken for one version, in files and options."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

Path = tuple[str, ...]  # of keys, from the top of the settings


def old_names(model: type[BaseModel]) -> dict[str, str]:
    """Old name → name now of the fields of `model`: what its bases and it call `renamed`."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        found |= vars(one).get("renamed", {})
    return found


def with_new_names(
    model: type[BaseModel],
    data: Mapping[str, Any],
    parts: Mapping[str, type[BaseModel]] | None = None,
    found: Callable[[Path, str], None] = lambda at, new: None,
    at: Path = (),
) -> dict[str, Any]:
    """`data` with each field of `model`, and of the settings in it, under its name of now.

    Args:
        model: the settings.
        data: their values; what is no field is left as it is.
        parts: models of free mappings that change another job's settings.
        found: is called with each old name, as a path, and the new one.
        at: where `data` stands in the whole.

    Raises:
        ValueError: a field stands there under both names.
    """
    names, parts = old_names(model), parts or getattr(model, "nested_jobs", {})
    current: dict[str, Any] = {}
    for key, value in data.items():
        new = names.get(key, key)
        if new != key:
            if new in data:
                raise ValueError(f"{key} is the old name of {new}: give one of them")
            found((*at, key), new)
        part = parts.get(new) or _model_of(model, new)
        if part and isinstance(value, Mapping):
            value = with_new_names(part, value, None, found, (*at, key))
        current[new] = value
    return current


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    kind = model.model_fields[name].annotation if name in model.model_fields else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


@functools.cache  # a job may look at its settings twice
def say_renamed(where: str, old: str, new: str) -> None:
    """Say on stderr, in one line, what a name is called now."""
    print(f"{where}: {old} is now {new}; the old name goes in the next version", file=sys.stderr)
