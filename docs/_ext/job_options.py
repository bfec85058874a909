"""The directive `job-options`: the options of every job, read from its settings."""

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

ROOT = Path(__file__).parents[2]
HEAD = ("option", "takes", "default", "what it is")
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


def part(name: str, title: str, says: str | None, body: list[tuple[str, ...]]) -> nodes.section:
    """A section: what the job does, and its options."""
    section = nodes.section(ids=[name])
    section += nodes.title(text=title)
    section += nodes.paragraph(text=" ".join((says or "").split()))
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
        yield option, takes(kind), default(field), field.description or ""


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
    """The default as the command line would be given it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value in (None, "", (), []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


def table(body: list[tuple[str, ...]]) -> nodes.table:
    """A table of texts, the first column as code."""
    found = nodes.table()
    group = nodes.tgroup(cols=len(HEAD))
    found += group
    group += [nodes.colspec(colwidth=width) for width in (24, 16, 12, 48)]
    group += nodes.thead("", line([nodes.paragraph(text=text) for text in HEAD]))
    lines = []
    for option, *rest in body:
        code = nodes.paragraph("", "", nodes.literal(text=option))
        lines.append(line([code, *(nodes.paragraph(text=text) for text in rest)]))
    group += nodes.tbody("", *lines)
    return found


def line(cells: list[nodes.paragraph]) -> nodes.row:
    """A row of a table."""
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("job-options", JobOptions)
    return {"parallel_read_safe": True}
