"""The settings of every job, found as its script names them."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

JOBS = [  # but the old name of one
    path
    for path in sorted((Path(__file__).parents[1] / "jobs").glob("*.py"))
    if path.stem != "pipeline"
]


def settings_of(script: Path) -> type[BaseModel]:
    """The settings of a job: what its script gives to run_job."""
    spec = importlib.util.spec_from_file_location(f"job_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (name,) = [
        node.args[0].id
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "run_job"
        and isinstance(node.args[0], ast.Name)
    ]
    return getattr(module, name)


def fields_of(model: type[BaseModel], at: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every field by its dotted name, those of nested models too."""
    for name, field in model.model_fields.items():
        yield f"{at}.{name}", field
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from fields_of(part, f"{at}.{name}")


def parts_of(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)
