"""False positives on images that a person marked as real."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.dataset.marks import Marks
from rayapp.drift.known_reals import known_reals, marked_rows
from rayapp.metrics.traffic import Traffic
from rayapp.models.calibration.decisions import OperatingPoint, Rate
from rayapp.models.verdicts import Judge
from rayapp.storage.uris import open_store
from tests.models.test_verdicts import calibration

DETECTOR, TODAY = "d" * 64, "2026-11-29"


def table(logits: np.ndarray, days: Sequence[str | None] = ()) -> pa.Table:
    rows = [
        {
            "id": f"{at}.png",
            "path": f"{at}.png",
            "logit": float(one),
            "status": "ok",
            "detector_hash": DETECTOR,
        }
        for at, one in enumerate(logits)
    ]
    made = manifest.from_rows(rows, scores.schema())
    known = dict(zip((row["path"] for row in rows), days, strict=False))
    each = [known.get(path) for path in made["path"].to_pylist()]  # a table is in order of ids
    return made.append_column("day", pa.array(each, pa.string()))


def all_real(num: int) -> Marks:
    origins = {f"{at}.png": 0 for at in range(num)}
    return Marks(origins, dict.fromkeys(origins, 1.0))


def promised() -> Judge:
    rates = (Rate(slice="all", num_real=100, num_flagged=1),)
    point = OperatingPoint(fpr=0.02, rates=rates, num_synthetic=9, num_found=9)
    return Judge("", calibration(operating_point=point))


def test_of_reals_that_were_drawn_alike_all_count() -> None:
    logits = np.where(np.arange(200) < 10, 3.0, -3.0)  # the first ten are called synthetic
    origins = {f"{at}.png": int(at >= 150) for at in range(200)}
    found = known_reals(
        Marks(origins, dict.fromkeys(origins, 4.0)), table(logits), promised(), [], [TODAY]
    )
    assert (found.num, found.num_flagged, found.num_marked) == (150, 10, 150)
    assert found.interval == pytest.approx((0.0325, 0.1192), abs=1e-3)
    assert found.broken
    assert found.promised == 0.02


def test_of_others_an_even_sample_counts() -> None:
    """Half of the marks are of the surest, which stand for themselves alone."""
    num = 2000
    logits = np.where(np.arange(num) < num // 2, 3.0, -3.0)
    origins = {f"{at}.png": 0 for at in range(num)}
    weights = {f"{at}.png": 1.0 if at < num // 2 else 50.0 for at in range(num)}
    found = known_reals(Marks(origins, weights), table(logits), promised(), [], [TODAY])
    assert num // 2 <= found.num < num * 0.55
    assert found.rate == pytest.approx(1 / 51, abs=0.015)


def test_what_has_no_score_is_named() -> None:
    marks = Marks({"0.png": 0, "gone.png": 0}, {"0.png": 1.0, "gone.png": 1.0})
    with pytest.raises(
        UserError, match=r"1 of 2 marked images have no score in s; first: gone\.png"
    ):
        known_reals(marks, table(np.zeros(1)), promised(), ["s"], [TODAY])
    with pytest.raises(UserError, match="no image is marked real"):
        known_reals(
            Marks({"0.png": 1}, {"0.png": 1.0}), table(np.zeros(1)), promised(), ["s"], [TODAY]
        )


def test_those_of_the_days_that_are_looked_at_count() -> None:
    """Of 60 marked a third is of today; what was wrong before, today is right."""
    days = [TODAY if at < 20 else "2026-11-20" for at in range(60)]
    logits = np.array([-3.0 if day == TODAY else 3.0 for day in days])
    found = known_reals(all_real(60), table(logits, days), promised(), [], [TODAY])
    assert (found.num, found.num_flagged, found.num_marked) == (20, 0, 20)
    assert found.over == "scored on 2026-11-29; 60 marked in all"
    two = known_reals(
        all_real(60), table(logits, days), promised(), [], ["2026-11-20", "2026-11-29"]
    )
    assert (two.num, two.num_flagged) == (60, 40)
    assert two.over == "scored on 2026-11-20 to 2026-11-29"


def test_an_image_that_was_scored_twice_counts_as_it_was_on_the_day() -> None:
    both = pa.concat_tables(
        [table(np.full(5, 3.0), ["2026-11-20"] * 5), table(np.full(5, -3.0), [TODAY] * 5)]
    )
    assert known_reals(all_real(5), both, promised(), [], [TODAY]).num_flagged == 0
    assert known_reals(all_real(5), both, promised(), [], ["2026-11-20"]).num_flagged == 5


def test_where_none_is_of_the_day_all_count_and_it_is_said_why() -> None:
    logits = np.full(30, -3.0)
    other = known_reals(all_real(30), table(logits, ["2026-11-20"] * 30), promised(), [], [TODAY])
    assert other.num == 30
    assert other.over == "of all days: none was scored on 2026-11-29"
    undated = known_reals(all_real(30), table(logits), promised(), [], [TODAY])
    assert undated.num == 30
    assert undated.over == "of all days: their scores do not say when"


def test_when_a_row_was_scored_is_in_the_row_or_in_the_counts_beside_it(tmp_path: Path) -> None:
    logits = np.zeros(3)
    plain = table(logits).drop_columns(["day"])

    def output(name: str, rows: pa.Table, *days: str) -> None:
        store = open_store(tmp_path / name)
        manifest.write_table(store, scores.SCORES_FILE, rows)
        if days:
            traffic = Traffic(DETECTOR, "c")
            for day in days:
                traffic.add({"logit": 0.0, "verdict": "real"}, day)
            store.put("traffic/d-c.json", traffic.to_json().encode())

    times = pa.array(
        ["2026-11-27T23:59:59.0Z", "2026-11-29T00:00:00.0Z+000001 2026-11-28T00:00:01.0Z", None],
        pa.string(),
    )
    output("followed", plain.append_column(scores.SCORED_AT, times), "2026-11-27", "2026-11-28")
    output("once", plain, TODAY)
    output("over midnight", plain, TODAY, "2026-11-30")
    output("of before", plain)
    for names, days in {
        ("followed",): ["2026-11-27", "2026-11-28", None],
        ("once",): [TODAY] * 3,
        ("over midnight",): [None] * 3,
        ("of before",): [None] * 3,
        ("once", "of before"): [TODAY] * 3 + [None] * 3,
    }.items():
        uris = [str(tmp_path / name) for name in names]
        assert marked_rows(uris, DETECTOR, all_real(3))["day"].to_pylist() == days
    every = marked_rows([str(tmp_path)], DETECTOR, all_real(3))  # a folder of outputs
    assert every.num_rows == 12
    assert every["day"].to_pylist().count(TODAY) == 3
    assert marked_rows([str(tmp_path / "once")], "other", all_real(3)).num_rows == 0
