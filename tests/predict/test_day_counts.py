"""Counts beside the scores: of a followed folder each version of a file counts once."""

from pathlib import Path

import pyarrow as pa

from rayapp.metrics.traffic import today
from rayapp.metrics.traffic_files import read_counts
from rayapp.models.verdicts import Judge
from rayapp.predict.day_counts import DayCounts, counted_until, now_after, stamped
from rayapp.storage.uris import open_store

JUDGE = Judge("x")


def rows(names: str, etag: str = "1") -> pa.Table:
    """A file a letter; capital ones failed."""
    found = [
        {
            "id": one.lower(),
            "path": one.lower(),
            "etag": etag,
            "logit": None if one.isupper() else 1.0,
            "status": "failed" if one.isupper() else "ok",
        }
        for one in names
    ]
    return pa.Table.from_pylist(found)


def verdicts(folder: Path) -> dict[str, dict[str, int]]:
    (found,) = read_counts(str(folder)).values()
    return {day: dict(one.total().verdicts) for day, one in found.days.items()}


def counted(folder: Path, table: pa.Table) -> None:
    store = open_store(folder)
    counts = DayCounts(JUDGE, "d", counted_until(store))
    counts.add(table)
    counts.write(store)


def test_what_is_scored_once_is_of_today_and_written_again_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        counted(tmp_path, rows("abC"))
        assert verdicts(tmp_path) == {today(): {"synthetic": 2, "not scored": 1}}


def test_days_of_a_followed_folder_add_up_whatever_goes(tmp_path: Path) -> None:
    empty = rows("").cast(rows("a").schema) if rows("").num_columns else rows("a").slice(0, 0)
    first = pa.concat_tables(stamped([rows("abC")], "2026-11-28T23:59:59.9Z", empty))
    counted(tmp_path, first)
    assert verdicts(tmp_path) == {"2026-11-28": {"synthetic": 2, "not scored": 1}}
    # a has gone, b stands, c failed again as it was, d and e are new.
    new = pa.concat_tables(stamped([rows("Cde")], "2026-11-29T00:00:01.0Z", first))
    second = pa.concat_tables([first.filter(pa.array([False, True, False])), new])
    for _ in range(2):  # the same rows once more: as after a kill behind the counts
        counted(tmp_path, second)
        assert verdicts(tmp_path) == {
            "2026-11-28": {"synthetic": 2, "not scored": 1},
            "2026-11-29": {"synthetic": 2},
        }
    changed = pa.concat_tables(stamped([rows("b", etag="2")], "2026-11-29T00:00:02.0Z", second))
    counted(tmp_path, changed)
    assert verdicts(tmp_path)["2026-11-29"] == {"synthetic": 3}


def test_scores_that_were_written_before_a_kill_are_counted_afterwards(tmp_path: Path) -> None:
    first = pa.concat_tables(stamped([rows("ab")], "2026-11-28T01:00:00.0Z", rows("a").slice(0, 0)))
    counted(tmp_path, first)
    lost = pa.concat_tables(stamped([rows("c")], "2026-11-28T02:00:00.0Z", first))  # not counted
    later = pa.concat_tables(stamped([rows("d")], "2026-11-29T03:00:00.0Z", lost))
    counted(tmp_path, pa.concat_tables([first, lost, later]))
    assert verdicts(tmp_path) == {"2026-11-28": {"synthetic": 3}, "2026-11-29": {"synthetic": 1}}


def test_under_another_calibration_counts_begin_anew_and_none_twice(tmp_path: Path) -> None:
    from tests.models.test_verdicts import calibration

    first = pa.concat_tables(stamped([rows("ab")], "2026-11-28T01:00:00.0Z", rows("a").slice(0, 0)))
    counted(tmp_path, first)
    store = open_store(tmp_path)
    other = DayCounts(Judge("x", calibration()), "d", counted_until(store))
    new = pa.concat_tables(stamped([rows("c")], "2026-11-28T02:00:00.0Z", first))
    other.add(pa.concat_tables([first, new]))
    other.write(store)
    found = read_counts(str(tmp_path))
    totals = sorted(one.whole().total().logits.total() for one in found.values())
    assert totals == [1, 2]


def test_time_goes_on_where_the_clock_was_set_back() -> None:
    assert now_after("") > "2026"
    assert now_after("2999-01-01T00:00:00.000000Z") > "2999-01-01T00:00:00.000000Z"
