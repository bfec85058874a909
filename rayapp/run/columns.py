"""Columns of tables that an earlier run left, held to those that are written now."""

import pyarrow as pa

from rayapp.config.errors import UserError

_MOST_NAMED = 5


def check_columns(found: pa.Schema, wanted: pa.Schema, uri: str, folder: str) -> None:
    """Nothing where a table of an earlier run has the columns of now, in whatever order.

    Args:
        found: columns of the table.
        wanted: those of now.
        uri: the table.
        folder: where it lies, beside others of the same rows; without it they are done anew.

    Raises:
        UserError: they differ; neither the table nor its rows are touched.
    """
    both = [name for name in found.names if name in wanted.names]
    odd = {
        "lacks": [name for name in wanted.names if name not in found.names],
        "has": [name for name in found.names if name not in wanted.names],
        "has of another type": [n for n in both if found.field(n).type != wanted.field(n).type],
    }
    said = "; ".join(f"{verb} {_named(names)}" for verb, names in odd.items() if names)
    if said:
        raise UserError(
            f"{uri}: another version began this, its table {said}: go on with that version, give "
            f"another --output, or remove {folder}, whose rows are then done anew"
        )


def _named(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_NAMED]))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"the column{'s' * (len(names) > 1)} {shown}{more}"
