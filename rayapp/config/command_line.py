"""The command line of a job, made from its typed settings, and the frame that runs a job.

`imaginet NAME --config FILE.yaml --option value`: every option is a field of the job's settings;
the command line wins over the file. Paths in either start from the working directory.
"""

import argparse
import difflib
import gc
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rayapp.config import clock, interrupt
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.packaged import resource
from rayapp.config.renamed import old_names, say_renamed
from rayapp.config.settings import EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE
from rayapp.config.yaml_files import bare, line_of, read_renamed, validated

S = TypeVar("S", bound=BaseModel)


_ALIKE = 0.75  # share of letters in common from which an option is meant as another


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
        return prog if config is None or from_option else f"{config}{line_of(lines, loc)}"

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
        kind = bare(field.annotation)
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
    words = list(itertools.takewhile(lambda one: not one.startswith("-"), unknown))
    if words:
        shown = f"{words[0]} and {len(words) - 1} more" if len(words) > 1 else words[0]
        parser.error(
            f"{shown}: belongs to no option; if the shell made it of a pattern such as *.jpg, "
            "quote the pattern"
        )
    if unknown:
        meant = _meant(unknown[0].partition("=")[0], parser)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")


def _meant(option: str, parser: argparse.ArgumentParser) -> str:
    """`, did you mean --name?` where an option begins so, or is written nearly so."""
    known = [
        name.removeprefix("--")  # which would make all of them alike
        for action in parser._actions  # argparse has no public name for its options
        if action.help != argparse.SUPPRESS
        for name in action.option_strings
        if name.startswith("--")
    ]
    given = option.removeprefix("--").replace("_", "-")
    begun = [name for name in known if name.startswith(given)] if len(given) > 1 else []
    close = begun[:1] or difflib.get_close_matches(given, known, n=1, cutoff=_ALIKE)
    return f", did you mean --{close[0]}?" if close else ""


def _add_options(parser: argparse.ArgumentParser, model: type[BaseModel], prefix: str = "") -> None:
    """One option a field; a field that is itself a model gives dotted options."""
    for name, field in model.model_fields.items():
        kind = bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            _add_options(parser, kind, f"{prefix}{name}.")
        elif get_origin(kind) is not dict:  # free mappings come from the file only
            _add_option(parser, prefix + name, kind, field)
    for old, new in old_names(model).items():
        _add_old_option(parser, prefix + old, bare(model.model_fields[new].annotation))


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
