"""The label scheme of own images, and which of their names a list can hold."""

from collections.abc import Sequence
from typing import Any, get_args

from rayapp.annotate.folder_layout import Labelled
from rayapp.annotate.words import REAL, SYNTHETIC, Origin
from rayapp.config.errors import UserError
from rayapp.dataset.labels import LabelScheme, item_id, path_fault


def name_fault(path: str) -> str | None:
    """Why a file's name can't stand in a list, or None."""
    if item_id(path) != path:
        return "its name is not in the usual Unicode form (NFC): rename it"
    return path_fault(path)


def scheme_of(images: Sequence[Labelled], name: str) -> LabelScheme:
    """The label scheme of the images: origin, content where it is known, generator; real last."""
    makers = sorted({one.generator for one in images if one.origin == SYNTHETIC})
    if REAL in makers:
        raise UserError(f"a generator is called {REAL!r}; that name is for real images")
    contents = sorted({one.content for one in images})
    columns = {"origin": dict(enumerate(get_args(Origin)))}
    if contents != [""]:
        columns["content"] = {code: word or "unknown" for code, word in enumerate(contents)}
    columns["generator"] = dict(enumerate([*makers, REAL]))
    real = len(makers)
    rules: list[dict[str, Any]] = [{"when": {"origin": 0}, "then": {"generator": [real]}}]
    if makers:
        rules.append({"when": {"origin": 1}, "then": {"generator": list(range(real))}})
    return LabelScheme.model_validate({"name": name, "columns": columns, "rules": rules})


def labels_of(one: Labelled, scheme: LabelScheme) -> tuple[int, ...]:
    """The codes of an image."""
    words = {"origin": one.origin, "content": one.content or "unknown", "generator": one.generator}
    codes = {
        column: {w: code for code, w in names.items()} for column, names in scheme.columns.items()
    }
    return tuple(codes[column][words[column]] for column in scheme.columns)
