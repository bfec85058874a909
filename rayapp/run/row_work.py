"""What a row's work is: batches of rows in, one result a row out, failures kept as rows."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError

Row = dict[str, Any]


class RowWork(Protocol):
    """Work on rows, made once a worker: `setup()` first, then batches of rows.

    A row that fails becomes a failed row (`each` does that); nothing else is lost. A batch that
    raises as a whole is done again row by row.
    """

    def setup(self) -> None:
        """Load what all rows need; what it raises ends the job."""

    def batch(self, rows: Sequence[Row]) -> list[Row]:
        """One result a row, in order, each with `status` and `error`."""


def each(
    rows: Sequence[Row], one: Callable[[Row], Row], threads: Executor | None = None
) -> list[Row]:
    """`one(row)` for every row; an exception becomes that row's `status` and `error`.

    Args:
        rows: the rows of a batch.
        one: what it returns is added to the row.
        threads: where given, rows are done side by side, so that waiting for files costs no time.
    """

    def guarded(row: Row) -> Row:
        try:
            return {**row, "status": manifest.STATUS_OK, "error": "", **one(row)}
        except Exception as error:  # noqa: BLE001 - the row is the unit of failure: any cause, named
            return {**row, "status": manifest.STATUS_FAILED, "error": format_error(error)}

    return list(threads.map(guarded, rows) if threads else map(guarded, rows))


def format_error(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError | ImageError) else f"{type(error).__name__}: {text}"
