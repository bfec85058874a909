"""Settings from YAML: each fault with its file, line and key."""

import difflib
import os
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rayapp.config.errors import UserError
from rayapp.config.renamed import say_renamed, with_new_names

S = TypeVar("S", bound=BaseModel)
_MOST_VALUES = 100_000  # of one YAML file


def parse_yaml(path: str | os.PathLike[str], model: type[S]) -> S:
    """The file as `model`.

    Raises:
        UserError: no such file, no YAML, an unknown key or a wrong value, with file, line, key.
    """
    data, lines = read_renamed(path, model)
    return validated(model, data, lambda loc: f"{path}{line_of(lines, loc)}")


def read_renamed(
    path: str | os.PathLike[str], model: type[BaseModel]
) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """As `read_yaml`, by the names of now; an old one is said, with its line."""
    data, lines = read_yaml(path)

    def found(at: tuple[str, ...], new: str) -> None:
        lines[(*at[:-1], new)] = lines[at]
        say_renamed(f"{path}:{lines[at]}", at[-1], new)

    try:
        return with_new_names(model, data, found=found), lines
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def named_now(model: type[BaseModel], data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Changes to a job's settings by the names of now; an old one is said.

    Raises:
        UserError: a field stands there under both names.
    """
    try:
        return with_new_names(
            model, data, found=lambda at, new: say_renamed(where, ".".join(at), new)
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def read_yaml(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The mapping in a YAML file, and the line on which each key (as a path of keys) stands."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
        lines: dict[tuple[str, ...], int] = {}
        _collect_lines(path, node, (), lines)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}{where}: not YAML: {why}") from None
    if data is None:
        return {}, {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UserError(f"{path}: `key: value` lines are wanted at the top")
    return data, lines


def _collect_lines(path: Any, node: Any, at: tuple[str, ...], lines: dict[Any, int]) -> None:
    if len(lines) > _MOST_VALUES:  # aliases of aliases may unfold to more than fits anywhere
        raise UserError(f"{path}: unfolds to more than {_MOST_VALUES:,} values")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            if here in lines:
                raise UserError(f"{path}:{key.start_mark.line + 1}: key {key.value!r} stands twice")
            lines[here] = key.start_mark.line + 1
            _collect_lines(path, value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, str(index))] = value.start_mark.line + 1
            _collect_lines(path, value, (*at, str(index)), lines)


def line_of(lines: dict[tuple[str, ...], int], loc: Sequence[str | int]) -> str:
    """`:LINE` of a key, or of the nearest one that holds it; nothing where none is known."""
    keys = tuple(str(part) for part in loc)
    while keys:
        if keys in lines:
            return f":{lines[keys]}"
        keys = keys[:-1]
    return ""


def validated(model: type[S], data: Mapping[str, Any], where: Callable[[Any], str]) -> S:
    """`data` as `model`; the first fault as one UserError line that starts with `where(loc)`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # A mistyped key is also a missing one; the key that stands there says it best.
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        more = error.error_count() - 1
        tail = f" (and {more} more)" if more else ""
        raise UserError(f"{where(first['loc'])}: {_explain(first, model)}{tail}") from None


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {name!r}{_known(model, error['loc'])}"
    if error["type"] == "missing":
        return f"{name}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not name:
        return message
    if error["type"] == "signed":  # what was given is a secret
        return f"{name}: {message}"
    if error["type"] == "too_short":
        context = error["ctx"]
        return f"{name}: takes at least {context['min_length']}, got {context['actual_length']}"
    given = repr(error["input"])
    given = given if len(given) <= 80 else given[:77] + "…"
    return f"{name}: {message[0].lower()}{message[1:]}, got {given}"


def _known(model: Any, loc: Sequence[str | int]) -> str:
    """What was meant by the key at a place of the settings, and what is known there."""
    *above, key = loc
    for part in above:
        fields = getattr(model, "model_fields", {})
        model = bare(fields[part].annotation) if part in fields else None
    fields = getattr(model, "model_fields", {})
    close = difflib.get_close_matches(str(key), fields, n=1)
    meant = f", did you mean {close[0]!r}?" if close else ""
    return f"{meant} (known: {', '.join(fields)})" if fields else ""


def bare(annotation: Any) -> Any:
    """The annotation without `| None`; a union of choices as one choice."""
    if get_origin(annotation) not in {Union, types.UnionType}:
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if all(get_origin(part) is Literal for part in parts):
        return Literal[tuple(choice for part in parts for choice in get_args(part))]
    return parts[0]
