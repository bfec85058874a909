"""Directives that read settings: `job-options`, and `perturbation-steps`."""

import ast
import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rayapp.config.settings import JobSettings
from rayapp.transforms.rules import Rule

ROOT = Path(__file__).parents[2]
HEAD = ("option", "what it is")
OLD_NAMES = {"pipeline"}


COMMON = set(JobSettings.model_fields) - {"output"}


class JobOptions(SphinxDirective):
    """A section with a table of what all jobs take, and one a job of its own options."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """The common section, then one a script in jobs/."""
        common = [row for row in rows(JobSettings, "") if row[0] != "--output"]
        found: list[nodes.Node] = [part("every-job", "Every job", JobSettings.__doc__, common)]
        for script in sorted((ROOT / "jobs").glob("*.py")):
            if script.stem in OLD_NAMES:
                continue
            self.env.note_dependency(str(script))
            model = settings_of(script)
            own = list(rows(model, "", COMMON if issubclass(model, JobSettings) else set()))
            found.append(part(script.stem, f"imaginet {script.stem}", model.__doc__, own))
        return found


class PerturbationSteps(SphinxDirective):
    """A section an operation, with a table of what it takes."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """One section a field of a rule."""
        found: list[nodes.Node] = []
        for name, rule in Rule.model_fields.items():
            model = bare(rule.annotation)
            own = [
                (one, field.description or "", default(field))
                for one, field in model.model_fields.items()
            ]
            found.append(part(f"step-{name}", name, model.__doc__, own))
        return found


def part(name: str, title: str, says: str | None, body: list[tuple[str, ...]]) -> nodes.section:
    """A section: what the job does, and its options."""
    section = nodes.section(ids=[name])
    section += nodes.title(text=title)
    section += prose(" ".join((says or "").split()))
    section += table(body)
    return section


def settings_of(script: Path) -> type[BaseModel]:
    """The settings that a job's script gives to run_job."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    (name,) = {
        node.args[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "run_job"
        and isinstance(node.args[0], ast.Name)
    }
    (module,) = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and name in [alias.name for alias in node.names]
    }
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    return model


def rows(
    model: type[BaseModel], prefix: str, but: Collection[str] = ()
) -> Iterator[tuple[str, ...]]:
    """The cells of each option; a field that is itself a model gives dotted options."""
    for name, field in model.model_fields.items():
        if name in but:
            continue
        kind = bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from rows(kind, f"{prefix}{name}.")
            continue
        if get_origin(kind) is dict:  # free mappings come from the file only
            continue
        option = f"--{prefix}{name}".replace("_", "-")
        given = [takes(kind), default(field)]
        yield option, field.description or "", ", ".join(filter(None, given))


def bare(annotation: Any) -> Any:
    """The annotation without `| None`."""
    parts = [one for one in get_args(annotation) if one is not type(None)]
    is_optional = len(parts) < len(get_args(annotation))
    return parts[0] if is_optional and len(parts) == 1 else annotation


def takes(kind: Any) -> str:
    """What an option takes, in a word."""
    literals = [one for one in (kind, *get_args(kind)) if get_origin(one) is Literal]
    if literals:
        choices = " | ".join(str(choice) for one in literals for choice in get_args(one))
        return choices if kind in literals or get_origin(kind) is not tuple else f"of {choices}"
    if kind is bool:
        return "yes or no"
    if get_origin(kind) in (tuple, list):
        return "one or more"
    return {int: "whole number", float: "number"}.get(kind, "text")


def default(field: FieldInfo) -> str:
    """That it is required, or the default as the command line would be given it, if any."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value in (None, "", (), []):
        return ""
    if isinstance(value, bool):
        return "default yes" if value else "default no"
    if isinstance(value, float):
        return f"default {value:g}"
    if isinstance(value, list | tuple):
        shown = (f"{one:.3g}" if isinstance(one, float) else str(one) for one in value)
        return f"default {' '.join(shown)}"
    return f"default {value}"


def table(body: list[tuple[str, ...]]) -> nodes.table:
    """A table: the option as code; what it is, and in brackets what it takes."""
    found = nodes.table()
    group = nodes.tgroup(cols=len(HEAD))
    found += group
    group += [nodes.colspec(colwidth=width) for width in (30, 70)]
    group += nodes.thead("", line([nodes.paragraph(text=text) for text in HEAD]))
    lines = []
    for option, says, given in body:
        code = nodes.paragraph("", "", nodes.literal(text=option))
        lines.append(line([code, prose(f"{says} ({given})" if given else says)]))
    group += nodes.tbody("", *lines)
    return found


def prose(text: str) -> nodes.paragraph:
    """A paragraph, with what stands between backticks as code."""
    found = nodes.paragraph()
    for number, piece in enumerate(text.split("`")):
        found += nodes.literal(text=piece) if number % 2 else nodes.Text(piece)
    return found


def line(cells: list[nodes.paragraph]) -> nodes.row:
    """A row of a table."""
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("job-options", JobOptions)
    app.add_directive("perturbation-steps", PerturbationSteps)
    return {"parallel_read_safe": True}
