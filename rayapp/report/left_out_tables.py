"""Each generator, model or source of real images by the detectors that were never trained on it."""

from collections.abc import Sequence

from rayapp.metrics.evaluation import LeftOut
from rayapp.pages.blocks import Table, Value

_WHAT = {"generator": "generator", "model": "model", "source": "source of real images"}


def left_out_table(rows: Sequence[LeftOut]) -> Table:
    """A row a name and detector, the lowest ROC AUC first: what is to be expected elsewhere."""
    ordered = sorted(rows, key=lambda row: (row.roc_auc.value is None, row.roc_auc.value or 0.0))
    cells: list[list[Value]] = [
        [
            row.name,
            row.detector,
            row.num_real,
            row.num_synthetic,
            row.roc_auc.measure(),
            row.balanced_accuracy.measure(),
        ]
        for row in ordered
    ]
    what = ", ".join(dict.fromkeys(_WHAT[row.column] for row in rows))
    columns = [what, "detector", "real", "synthetic", "ROC AUC", "balanced accuracy"]
    told = (
        "Each was absent from the training lists of the detector beside it; the lowest come first. "
        "A detector on something new does as these do, not as it does on what it was trained on."
    )
    return Table(columns, cells, told)
