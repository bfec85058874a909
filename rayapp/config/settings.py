"""Typed settings of a job, from YAML and the command line, and the frame that runs a job.

`imaginet NAME --config FILE.yaml --option value`: every option is a field of the job's settings;
the command line wins over the file. Paths in either start from the working directory.
"""

import argparse
import gc
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from rayapp.config import clock, interrupt
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.packaged import resource
from rayapp.config.paths import OutputUri
from rayapp.config.renamed import old_names, say_renamed, with_new_names

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE, EXIT_MISSES = 0, 1, 2, 3


_MOST_VALUES = 100_000  # of one YAML file


class Settings(BaseModel):
    """Base of every job's settings: frozen, no unknown field, each field described."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Options that are looked for here and are another job's: what to do instead.
    elsewhere: ClassVar[Mapping[str, str]] = {}
    # Old name → name now: the old one is taken for one version.
    renamed: ClassVar[Mapping[str, str]] = {}
    # Free mappings that change another job's settings, and those.
    nested_jobs: ClassVar[Mapping[str, type[BaseModel]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _names_of_now(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        old = not old_names(cls).keys().isdisjoint(data)
        return with_new_names(cls, data) if old or cls.nested_jobs else data


class JobSettings(Settings):
    """What every job takes beside its own settings: where its output goes and what it runs on."""

    # Defaults too: `runs/prune` is relative to where the user stands.
    model_config = ConfigDict(validate_default=True)

    output: OutputUri = Field(description="folder or s3:// prefix for the results")
    overwrite: bool = Field(False, description="replace an output that belongs to another run")
    cpus: int | None = Field(
        None, ge=1, description="CPUs of the local Ray that the job starts; all where not given"
    )
    on_ray: bool = Field(
        False, description="work on Ray even where the job's own process is done sooner"
    )
    wait_s: float = Field(
        600.0, ge=0, description="seconds to wait for resources that a cluster may still add"
    )
    verbose: bool = Field(False, description="show Ray's own messages")


S = TypeVar("S", bound=BaseModel)


# --- YAML -----------------------------------------------------------------------------------


def parse_yaml(path: str | os.PathLike[str], model: type[S]) -> S:
    """The file as `model`.

    Raises:
        UserError: no such file, no YAML, an unknown key or a wrong value, with file, line, key.
    """
    data, lines = read_renamed(path, model)
    return validated(model, data, lambda loc: f"{path}{_line_of(lines, loc)}")


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


def _line_of(lines: dict[tuple[str, ...], int], loc: Sequence[str | int]) -> str:
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
        return f"unknown key {name!r}{_known(model, error['loc'][:-1])}"
    if error["type"] == "missing":
        return f"{name}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not name:
        return message
    given = repr(error["input"])
    given = given if len(given) <= 80 else given[:77] + "…"
    return f"{name}: {message[0].lower()}{message[1:]}, got {given}"


def _known(model: Any, loc: Sequence[str | int]) -> str:
    """The keys that are known at a place of the settings, where it is a model."""
    for part in loc:
        fields = getattr(model, "model_fields", {})
        model = _bare(fields[part].annotation) if part in fields else None
    fields = getattr(model, "model_fields", {})
    return f" (known: {', '.join(fields)})" if fields else ""


# --- command line ---------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (see --help)")


def parse_settings(model: type[S], arguments: Sequence[str], prog: str) -> S:
    """Settings from `--config FILE.yaml` and options; the options win.

    Raises:
        UserError: unknown option or key, wrong value; one line that names it.
    """
    parser = _Parser(prog=prog, description=model.__doc__, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below")
    _add_options(parser, model)
    parsed, unknown = parser.parse_known_args(list(arguments))
    _refuse(model, unknown, parser)
    given = vars(parsed)
    config = given.pop("config")
    options = _of_now(model, {k: v for k, v in given.items() if v is not None}, prog)
    data: dict[str, Any] = {}
    lines: dict[tuple[str, ...], int] = {}
    if config is not None:
        config = resource("configs", config)
        data, lines = read_renamed(config, model)
    for name, value in options.items():
        _set(data, name.split("."), value)

    def where(loc: Sequence[str | int]) -> str:
        dotted = ".".join(str(part) for part in loc)
        from_option = any(dotted == name or dotted.startswith(f"{name}.") for name in options)
        return prog if config is None or from_option else f"{config}{_line_of(lines, loc)}"

    return validated(model, data, where)


def _of_now(model: type[BaseModel], options: Mapping[str, Any], prog: str) -> dict[str, Any]:
    """The options, by dotted name, under their names of now; an old one is said.

    Raises:
        UserError: an option is given under both names.
    """
    old = dict(_old_options(model))
    for name in options.keys() & old.keys():
        before, now = (f"--{one.replace('_', '-')}" for one in (name, old[name]))
        if old[name] in options:
            raise UserError(f"{prog}: {before} is the old name of {now}: give one of them")
        say_renamed(prog, before, now)
    return {old.get(name, name): value for name, value in options.items()}


def _old_options(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Old and new name of each option that has one, dotted."""
    yield from ((prefix + old, prefix + new) for old, new in old_names(model).items())
    for name, field in model.model_fields.items():
        kind = _bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _old_options(kind, f"{prefix}{name}.")


def _refuse(
    model: type[BaseModel], unknown: Sequence[str], parser: argparse.ArgumentParser
) -> None:
    """Nothing where every argument is known.

    Raises:
        UserError: the first that is not, or where to take the option that another job has.
    """
    elsewhere = getattr(model, "elsewhere", {})
    for argument in unknown:
        name = argument.partition("=")[0].removeprefix("--").replace("-", "_")
        if argument.startswith("--") and name in elsewhere:
            raise UserError(f"{parser.prog}: --{name.replace('_', '-')}: {elsewhere[name]}")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")


def _add_options(parser: argparse.ArgumentParser, model: type[BaseModel], prefix: str = "") -> None:
    """One option a field; a field that is itself a model gives dotted options."""
    for name, field in model.model_fields.items():
        kind = _bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            _add_options(parser, kind, f"{prefix}{name}.")
        elif get_origin(kind) is not dict:  # free mappings come from the file only
            _add_option(parser, prefix + name, kind, field)
    for old, new in old_names(model).items():
        _add_old_option(parser, prefix + old, _bare(model.model_fields[new].annotation))


def _add_old_option(parser: argparse.ArgumentParser, name: str, kind: Any) -> None:
    """The option's old name, which the help keeps to itself."""
    option = "--" + name.replace("_", "-")
    old: dict[str, Any] = {"dest": name, "help": argparse.SUPPRESS}
    if kind is bool:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, **old)
    elif kind in (int, float):  # what was a switch may be a number now
        parser.add_argument(option, nargs="?", const=1, **old)
        parser.add_argument(f"--no-{option[2:]}", action="store_const", const=0, **old)
    else:
        parser.add_argument(option, nargs="+" if get_origin(kind) in {tuple, list} else None, **old)


def _bare(annotation: Any) -> Any:
    """The annotation without `| None`; a union of choices as one choice."""
    if get_origin(annotation) not in {Union, types.UnionType}:
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if all(get_origin(part) is Literal for part in parts):
        return Literal[tuple(choice for part in parts for choice in get_args(part))]
    return parts[0]


def _add_option(parser: argparse.ArgumentParser, name: str, kind: Any, field: FieldInfo) -> None:
    text = field.description or ""
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        text += " (required)"
    elif default is not PydanticUndefined and default not in (None, (), []):
        text += f" (default: {default})"
    text = text.replace("%", "%%")
    option, metavar = "--" + name.replace("_", "-"), name.rpartition(".")[2].upper()
    if kind is bool:
        action = argparse.BooleanOptionalAction
        parser.add_argument(option, action=action, help=text, dest=name, default=None)
    elif get_origin(kind) in {tuple, list}:
        parser.add_argument(option, nargs="+", metavar=metavar, help=text, dest=name)
    else:
        choices: dict[str, Any] = {}
        if get_origin(kind) is Literal:
            choices = {str(choice): choice for choice in get_args(kind)}
            metavar = "|".join(choices)
        parser.add_argument(
            option, metavar=metavar, help=text, dest=name, type=lambda text: choices.get(text, text)
        )


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict):
            return  # no mapping in the file: the validation says so, by line
    data[keys[-1]] = value


# --- running a job --------------------------------------------------------------------------


def run_job(
    model: type[S],
    job: Callable[[S], int | None],
    arguments: Sequence[str] | None = None,
    *,
    work: str = "",
) -> NoReturn:
    """Parse the settings, run the job, leave with the contract's exit code.

    0 done, 1 failed, 2 wrong use, 3 done with named misses, 130 interrupted. No
    traceback for what is foreseen.

    Args:
        model: the job's settings; its module imports nothing that takes long.
        job: what is done with them.
        arguments: of the command line; the process's own if none.
        work: module that the job imports: torch and Ray come with it, after the settings are
            parsed, so that help and wrong use are answered at once.
    """
    prog = Path(sys.argv[0]).name
    try:
        settings = parse_settings(model, sys.argv[1:] if arguments is None else arguments, prog)
        if work:
            importlib.import_module(work)
        interrupt.raise_from_now_on()
        # What is imported stays: the collector need not walk over torch and Ray whenever a list
        # grows. A listing of 100,000 objects takes a second less.
        gc.freeze()
        with clock.command():
            code = job(settings) or EXIT_DONE
        sys.stdout.flush()
    except UserError as error:
        code = _say(error, EXIT_WRONG_USE)
    except JobFailed as error:
        code = _say(error, EXIT_FAILED)
    except PermissionError as error:
        code = _say(f"{_cause(error).filename or prog}: permission denied", EXIT_WRONG_USE)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except OSError as error:
        found = _cause(error)
        code = _say(f"{found.filename or prog}: {found.strerror or found}", EXIT_FAILED)
    except KeyboardInterrupt:
        code = _say(interrupt.TEXT, interrupt.EXIT_INTERRUPTED)
    except Exception:
        if not interrupt.came():  # a library may have made another error of it
            raise
        code = _say(interrupt.TEXT, interrupt.EXIT_INTERRUPTED)
    sys.exit(code)


def _cause(error: OSError) -> OSError:
    """What Ray wraps around the error of a task, which then has neither file nor text."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, OSError) else error


def _say(message: object, code: int) -> int:
    start = "\n" if code == interrupt.EXIT_INTERRUPTED else "error: "
    print(f"{start}{message}", file=sys.stderr, flush=True)
    return code
