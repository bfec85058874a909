"""The rate of false positives on traffic that a person marked as real."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset.marks import Marks
from rayapp.models.calibration.decisions import lower_bound, upper_bound
from rayapp.models.calibration.importance import even_sample
from rayapp.models.verdicts import SYNTHETIC, Judge

_TAIL = 0.975  # of a two-sided 95 % interval


@dataclass(frozen=True)
class KnownReals:
    """Real images of the traffic, and how many of them are called synthetic.

    Of images that were not drawn alike an even sample is counted; `num_marked` is how many there
    were. `promised` is the rate that was asked of the calibration, where one was.
    """

    num: int
    num_flagged: int
    num_marked: int
    promised: float | None = None

    @property
    def rate(self) -> float:
        """Share that is called synthetic."""
        return self.num_flagged / self.num

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Clopper and Pearson."""
        return (
            lower_bound(self.num_flagged, self.num, _TAIL),
            upper_bound(self.num_flagged, self.num, _TAIL),
        )

    @property
    def broken(self) -> bool:
        """Whether the rate lies above what was promised, by more than chance."""
        return self.promised is not None and self.interval[0] > self.promised


def known_reals(marks: Marks, scores: pa.Table, judge: Judge, where: Sequence[str]) -> KnownReals:
    """Count them.

    Args:
        marks: what a person says.
        scores: of the detector, a row a path.
        judge: its verdicts.
        where: outputs of predict that were read, for messages.

    Raises:
        UserError: none is marked real, or one of them has no score.
    """
    paths = [path for path, origin in marks.origins.items() if origin == 0]
    if not paths:
        raise UserError("no image is marked real: there is no rate of false positives")
    rows = scores.filter(pc.is_in(scores["path"], value_set=pa.array(paths, pa.string())))
    at, _, verdicts = judge.table(rows)
    scored = dict(zip((rows["path"].to_pylist()[k] for k in at), verdicts.words, strict=True))
    if missing := [path for path in paths if path not in scored]:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} marked images have no score in "
            f"{', '.join(where)}; first: {missing[0]}"
        )
    weights_N = np.array([marks.weights[path] for path in paths])
    kept = [p for p, even in zip(paths, even_sample(weights_N, paths), strict=True) if even]
    flagged = sum(scored[path].removesuffix(judge.mark) == SYNTHETIC for path in kept)
    point = judge.calibration and judge.calibration.operating_point
    return KnownReals(len(kept), flagged, len(paths), point.fpr if point else None)
