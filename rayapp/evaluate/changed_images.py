"""The list of images that two detectors call differently."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from rayapp.config.paths import slug
from rayapp.metrics.changes import Changes, changed_sides

if TYPE_CHECKING:
    from rayapp.evaluate.judge import Judged


def list_changes(
    suite: str, first: tuple[str, Judged], second: tuple[str, Judged]
) -> tuple[Changes, str]:
    """Counts, and the images as CSV: labels, both probabilities, and which detector is right.

    Both detectors were measured on the same rows. An image that a legacy list repeats stands once.
    """
    (name_a, a), (name_b, b) = first, second
    p_a, p_b = a.test.probabilities_N, b.test.probabilities_N
    paths = a.rows["path"].to_pylist()
    once = np.unique(np.asarray(paths), return_index=True)[1]
    at = once[changed_sides(p_a[once], p_b[once], (a.test.threshold, b.test.threshold))]
    right_a = (p_a >= a.test.threshold) == (a.test.codes["origin"] == 1)
    scheme = a.items.scheme
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["path", *scheme.columns, f"P by {name_a}", f"P by {name_b}", "right"])
    for row in at.tolist():
        labels = [scheme.names(c)[int(codes[row])] for c, codes in a.test.codes.items()]
        path = paths[row] if paths[row][0] not in "=+-@" else f"./{paths[row]}"  # no formula
        values = f"{p_a[row]:.6f}", f"{p_b[row]:.6f}"
        writer.writerow([path, *labels, *values, name_a if right_a[row] else name_b])
    changes = Changes(
        suite=suite,
        first=name_a,
        second=name_b,
        num_images=len(once),
        first_right=int(right_a[at].sum()),
        second_right=int((~right_a[at]).sum()),
        file=f"changed/{suite}/{slug(name_a)}--{slug(name_b)}.csv",
    )
    return changes, sink.getvalue()
