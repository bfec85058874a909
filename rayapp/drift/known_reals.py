"""The rate of false positives on traffic that a person marked as real.

It is the rate of the days that are looked at, as far as it is known when a marked image was scored:
a followed folder's rows have the time, and the counts beside any other scores have the day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset.marks import Marks
from rayapp.dataset.scores import SCORED_AT, day_of, outputs_below, read_matching
from rayapp.drift.sides import named_days
from rayapp.metrics.traffic_files import read_counts
from rayapp.models.calibration.decisions import lower_bound, upper_bound
from rayapp.models.calibration.importance import even_sample
from rayapp.models.verdicts import SYNTHETIC, Judge

_TAIL = 0.975  # of a two-sided 95 % interval
_DAY = "day"  # column: when a row was scored, UTC; null: not known


@dataclass(frozen=True)
class KnownReals:
    """Real images of the traffic, and how many of them are called synthetic.

    Of images that were not drawn alike an even sample is counted; `num_marked` is how many there
    were. `promised` is the rate that was asked of the calibration, where one was. `over` says of
    which days they are, and why; `warnings` what the marks do not stand for.
    """

    num: int
    num_flagged: int
    num_marked: int
    promised: float | None = None
    over: str = ""
    warnings: tuple[str, ...] = ()

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


def marked_rows(uris: Sequence[str], detector: str, marks: Marks) -> pa.Table:
    """The scores of marked images by one detector, of every day, with the day where it is known.

    Args:
        uris: outputs of predict, or folders of several.
        detector: its hash.
        marks: what a person says.

    Raises:
        UserError: a table that can't be read.
    """
    tables = []
    for uri in dict.fromkeys(output for given in uris for output in outputs_below(given)):
        rows = read_matching([uri], detector, paths=marks.origins, more=[SCORED_AT.name])
        only, times = _only_day(uri, detector), [None] * rows.num_rows
        if SCORED_AT.name in rows.column_names:
            times = rows[SCORED_AT.name].to_pylist()
        days = pa.array([day_of(time) if time else only for time in times], pa.string())
        tables.append(rows.append_column(_DAY, days))
    nothing = read_matching([], detector).append_column(_DAY, pa.array([], pa.string()))
    return pa.concat_tables([nothing, *tables], promote_options="default")


def _only_day(output: str, detector: str) -> str | None:
    """The day of all scores of an output, where its counts tell."""
    try:
        counts = read_counts(output)
    except UserError:
        return None
    days = {day for one in counts.values() if one.detector == detector for day in one.days}
    return days.pop() if len(days) == 1 else None


def known_reals(
    marks: Marks, scores: pa.Table, judge: Judge, where: Sequence[str], days: Sequence[str]
) -> KnownReals:
    """Count them: those of the days that are looked at; where none is of these, all.

    Args:
        marks: what a person says.
        scores: of the detector, of `marked_rows`.
        judge: its verdicts.
        where: outputs of predict that were read, for messages.
        days: that are looked at.

    Raises:
        UserError: none is marked real, or one of them has no score.
    """
    paths = [path for path, origin in marks.origins.items() if origin == 0]
    if not paths:
        raise UserError("no image is marked real: there is no rate of false positives")
    every = _verdicts(scores, judge)
    if missing := [path for path in paths if path not in every]:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} marked images have no score in "
            f"{', '.join(where)}; first: {missing[0]}"
        )
    wanted = pc.is_in(scores[_DAY], value_set=pa.array(days, pa.string()))
    words, over = _verdicts(scores.filter(wanted), judge), named_days(days)
    mine = [path for path in paths if path in words]
    if mine:
        over = f"scored on {over}" + f"; {len(paths):,} marked in all" * (len(mine) < len(paths))
    else:
        dated = scores[_DAY].null_count < scores.num_rows
        why = f"none was scored on {over}" if dated else "their scores do not say when"
        words, mine, over = every, paths, f"of all days: {why}"
    weights_N = np.array([marks.weights[path] for path in mine])
    kept = [p for p, even in zip(mine, even_sample(weights_N, mine), strict=True) if even]
    flagged = sum(words[path] == SYNTHETIC for path in kept)
    point = judge.calibration and judge.calibration.operating_point
    promised = point.fpr if point else None
    return KnownReals(len(kept), flagged, len(mine), promised, over, marks.warnings)


def _verdicts(rows: pa.Table, judge: Judge) -> dict[str, str]:
    """Of each path that has a score, its first row's."""
    at, _, verdicts = judge.table(rows)
    paths, found = rows["path"].to_pylist(), dict[str, str]()
    for place, word in zip(at, verdicts.words, strict=True):
        found.setdefault(paths[place], word.removesuffix(judge.mark))
    return found
