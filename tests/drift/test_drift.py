"""Drift from counts to outcome: what is told, of what, and with which words."""

from pathlib import Path

import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.drift.differences import compare_days
from rayapp.drift.known_reals import KnownReals
from rayapp.drift.settings import DriftSettings
from rayapp.drift.sides import read_sides
from rayapp.drift.verdict import (
    BROKEN,
    CHANGED,
    NO_DRIFT,
    OTHER_IMAGES,
    SCORES_SHIFT,
    UNLIKE,
    lines,
    outcome,
    prometheus,
)
from rayapp.metrics.traffic import Day, Traffic
from rayapp.metrics.traffic_files import write_reference
from rayapp.storage.uris import open_store

DETECTOR, DECIDED = "d" * 64, "c" * 16


def traffic(
    logits: np.ndarray, day: str = "2026-11-29", verdict_at: float = 0.0, **more: object
) -> Traffic:
    found = Traffic(DETECTOR, DECIDED)
    for at, logit in enumerate(logits):
        word = "synthetic" if logit >= verdict_at else "real"
        size = {"format": "JPEG", "width": 640, "height": 480} if at % 3 else {"format": "PNG"}
        found.add({"logit": float(logit), "verdict": word, **size, **more}, day)
    return found


def drawn(seed: int, num: int, share: float, up: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return up + rng.normal(-2, 1.2, num) + 4.5 * (rng.random(num) < share)


def classes() -> dict[str, Traffic]:
    return {"real": traffic(drawn(1, 800, 0)), "synthetic": traffic(drawn(2, 800, 1))}


def against(found: dict[str, Traffic]) -> list[Day]:
    return [one.whole() for one in found.values()]


def compared(logits: np.ndarray, **more: object):
    day = traffic(logits, **more).whole()
    return compare_days(day, against(classes()), 0, same_decisions=True)


def test_a_day_like_the_calibration_in_another_share_is_no_drift() -> None:
    found = compared(drawn(14, 1000, 0.05))
    assert found.found == []
    assert outcome(found, None) == NO_DRIFT
    assert found.share_synthetic == pytest.approx(0.05, abs=0.06)
    names = [one.name for one in found.shifts]
    assert names[:2] == ["logits", "logits of JPEG, 256–511 px"]
    assert {"formats", "sizes", "verdicts"} <= set(names)
    synthetic, unsure = found.verdicts
    low, high = synthetic.interval
    assert low < synthetic.observed < high
    assert synthetic.expected == pytest.approx(synthetic.observed, abs=0.06)
    assert unsure.observed == 0


def test_scores_that_shift_put_the_thresholds_in_doubt() -> None:
    found = compared(drawn(4, 1000, 0.05, up=0.8))
    assert {"logits"} <= {one.name for one in found.found}
    assert outcome(found, None) == SCORES_SHIFT
    text = "\n".join(lines(found, None))
    assert "differs" in text
    assert "called synthetic: " in text


def test_scores_that_differ_from_the_days_before_alone_are_told_as_that() -> None:
    """Another share of synthetic images fits the calibration, but not the days before."""
    days, classes_of = traffic(drawn(11, 2000, 0.02)).whole(), against(classes())
    day = traffic(drawn(12, 1000, 0.3)).whole()
    found = compare_days(day, classes_of, 0, same_decisions=True, other=days)
    assert not found.scores_shift
    assert outcome(found, None) == CHANGED
    assert {"logits, days before", "verdicts, days before"} <= {one.name for one in found.found}
    same = traffic(drawn(13, 1000, 0.02)).whole()
    assert not compare_days(same, classes_of, 0, same_decisions=True, other=days).found


def test_other_images_with_the_same_scores_leave_the_thresholds() -> None:
    found = compared(drawn(5, 1000, 0.05), declared="camera")
    assert [one.name for one in found.found] == ["declared"]
    assert outcome(found, None) == OTHER_IMAGES


@pytest.mark.parametrize("up", [0.0, 0.15, 0.8])
def test_verdicts_take_no_power_from_the_rest_and_differ_where_logits_do(up: float) -> None:
    day = traffic(drawn(8, 1000, 0.05, up=up)).whole()
    without, found = (
        {one.name: one.p_value for one in compare_days(day, against(classes()), 0, **same).shifts}
        for same in ({"same_decisions": False}, {"same_decisions": True})
    )
    verdicts = found.pop("verdicts")
    assert found == without
    assert verdicts >= found["logits"]


def test_verdicts_that_reasons_change_differ_where_logits_do_not() -> None:
    day = Traffic(DETECTOR, DECIDED)
    for at, logit in enumerate(drawn(9, 1000, 0.05)):
        word = "synthetic" if logit >= 0 else "real"
        size = {"format": "JPEG", "width": 640, "height": 480} if at % 3 else {"format": "PNG"}
        row = {"logit": float(logit), "verdict": word, **size}
        blank = {"verdict": "unsure", "reason": "plain areas"} if at % 4 == 0 else {}
        day.add(row | blank, "2026-11-29")
    found = compare_days(day.whole(), against(classes()), 0, same_decisions=True)
    assert {"verdicts", "reasons"} == {one.name for one in found.found}


def test_images_unlike_any_of_the_calibration_are_named() -> None:
    given = traffic(drawn(6, 1000, 0.05))
    for logit in drawn(7, 40, 0):
        given.add(
            {"logit": float(logit), "format": "WEBP", "width": 90, "height": 90}, "2026-11-29"
        )
    found = compare_days(given.whole(), against(classes()), 0, same_decisions=True)
    assert found.unlike == {("WEBP", "below 128 px"): 40}
    assert "no class has 30 of the same format and size: " in "\n".join(lines(found, None))


def test_a_promise_that_known_reals_break_comes_first() -> None:
    found = compared(drawn(8, 1000, 0.05))
    broken = KnownReals(200, 20, 200, promised=0.02)
    kept = KnownReals(200, 4, 200, promised=0.02)
    assert outcome(found, broken) == BROKEN
    assert outcome(found, kept) == NO_DRIFT
    assert "10.00% [6.22%, 15.02%] of 200 known real" in "\n".join(lines(found, broken))


def test_gauges_for_prometheus() -> None:
    from prometheus_client import parser

    found = compared(drawn(9, 1000, 0.05, up=0.8))
    text = prometheus(DETECTOR, SCORES_SHIFT, found, KnownReals(200, 20, 200))
    families = {one.name: one.samples for one in parser.text_string_to_metric_families(text)}
    assert families["imaginet_drift_found"][0].value == 1
    assert {one.labels["of"] for one in families["imaginet_drift_effect"]} == {
        one.name for one in found.shifts
    }
    assert families["imaginet_false_positive_rate"][0].value == pytest.approx(0.1)


def test_too_few_images_tell_nothing() -> None:
    with pytest.raises(UserError, match=r"99 scored images .*add days up by --days"):
        compared(drawn(10, 99, 0.1))


# --- which counts are compared


def written(folder: Path, *found: Traffic) -> str:
    for number, one in enumerate(found):
        open_store(folder).put(f"{number}.json", one.to_json().encode())
    return str(folder)


def sides_of(tmp_path: Path, **more: object):
    settings = {"counts": str(tmp_path / "counts"), "against": str(tmp_path / "detector")}
    return read_sides(DriftSettings(output=str(tmp_path / "out"), **{**settings, **more}))


def test_the_last_day_or_several_against_the_calibration(tmp_path: Path) -> None:
    write_reference(open_store(tmp_path / "detector"), classes())
    days = [traffic(drawn(at, 50, 0.1), f"2026-11-{at:02d}") for at in (10, 11, 12)]
    other = Traffic(DETECTOR, "another calibration")
    other.merge(Traffic(DETECTOR, "another calibration", days[0].days))
    written(tmp_path / "counts", *days, other)
    last = sides_of(tmp_path)
    assert (last.name, list(last.reference)) == ("2026-11-12", ["real", "synthetic"])
    assert last.same_decisions
    assert "50 images by detector dddddddddddd under calibration another" in last.passed_over[0]
    assert last.other is not None
    assert last.other.name == "2026-11-10 to 2026-11-11"
    both = sides_of(tmp_path, day="2026-11-11", days=2)
    assert both.other is None
    assert both.name == "2026-11-10 to 2026-11-11"
    assert both.day.total().logits.total() == 100
    with pytest.raises(UserError, match=r"counts nothing on 2026-11-13 .*2026-11-10 to 2026-11-12"):
        sides_of(tmp_path, day="2026-11-13")


def test_a_day_against_the_days_before(tmp_path: Path) -> None:
    days = [traffic(drawn(at, 200, 0.1), f"2026-11-{at:02d}") for at in (10, 11, 12)]
    folder = written(tmp_path / "counts", *days)
    found = sides_of(tmp_path, against=folder)
    assert found.reference == {}
    assert found.other is not None
    assert found.other.name == "2026-11-10 to 2026-11-11"
    compared = compare_days(found.day, (), 0, same_decisions=True, other=found.other.day)
    assert compared.share_synthetic is None
    assert compared.shifts[0].name == "logits, days before"
    assert found.compared_with == "2026-11-10 to 2026-11-11, the days before"
    with pytest.raises(UserError, match="counts fewer than 100 images before 2026-11-10"):
        sides_of(tmp_path, against=folder, day="2026-11-10")


def test_a_day_against_all_of_another_folder_whatever_its_days(tmp_path: Path) -> None:
    """Two runs of one day: who names the other folder means it as a whole."""
    written(tmp_path / "counts", traffic(drawn(1, 400, 0.1)))
    later = traffic(drawn(2, 200, 0.1, up=1.0), "2026-11-30")
    other = written(tmp_path / "other", traffic(drawn(3, 300, 0.1, up=1.0)), later)
    found = sides_of(tmp_path, against=other)
    assert found.other is not None
    assert found.other.day.total().logits.total() == 500
    assert found.compared_with == f"2026-11-29 to 2026-11-30 of {other}"
    compared = compare_days(
        found.day, (), 0, same_decisions=True, other=found.other.day, ending=found.other.ending
    )
    assert compared.shifts[0].name == "logits, other counts"
    assert outcome(compared, None) == UNLIKE
    few = written(tmp_path / "few", traffic(drawn(4, 99, 0.1)))
    with pytest.raises(UserError, match=r"few: counts fewer than 100 images$"):
        sides_of(tmp_path, against=few)


def test_another_name_of_a_folder_is_the_same_folder(tmp_path: Path) -> None:
    days = [traffic(drawn(at, 200, 0.1), f"2026-11-{at:02d}") for at in (10, 11)]
    written(tmp_path / "counts/traffic", *days)
    (tmp_path / "link").symlink_to(tmp_path / "counts")
    for against in ("counts", "counts/", "counts/traffic", "link"):
        found = sides_of(tmp_path, against=f"{tmp_path}/{against}")
        assert found.compared_with == "2026-11-10, the days before"


def test_counts_of_another_detector_and_nothing_to_compare_with(tmp_path: Path) -> None:
    written(tmp_path / "counts", Traffic("e" * 64, DECIDED, traffic(drawn(1, 9, 0)).days))
    with pytest.raises(UserError, match=r"holds neither reference\.json, which calibrate writes"):
        sides_of(tmp_path)
    write_reference(open_store(tmp_path / "detector"), classes())
    with pytest.raises(UserError, match=r"what detector eeeeeeeeeeee scored, and .* is dddd"):
        sides_of(tmp_path)


def test_marks_and_scores_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="marks and scores go together"):
        sides_of(tmp_path, marks="a.csv")
    with pytest.raises(ValueError, match="a day is written 2026-11-29"):
        sides_of(tmp_path, day="today")
