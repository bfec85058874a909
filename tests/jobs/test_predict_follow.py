"""Following a folder until it is stopped: what comes is scored and counted once."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import UserError
from rayapp.jobs.predict import predict
from rayapp.jobs.predict_follow import follow
from rayapp.metrics.traffic import today
from rayapp.metrics.traffic_files import read_counts
from rayapp.predict import day_counts
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector
from tests.jobs.test_predict import picture


def settings(tmp_path: Path, **more: Any) -> PredictSettings:
    given = {"detector": saved_detector(tmp_path / "detector"), "input": str(tmp_path / "images")}
    given |= {"output": str(tmp_path / "out"), "follow": True, "follow_every_s": 1}
    return PredictSettings(**{**given, "gallery": 0, "precision": "exact", **more})


def verdicts(tmp_path: Path) -> dict[str, int]:
    """In all days, by whether they were scored."""
    found = {"scored": 0, "not scored": 0}
    for one in read_counts(str(tmp_path / "out")).values():
        for word, num in one.whole().total().verdicts.items():
            found[word if word in found else "scored"] += num
    return found


def test_what_comes_is_scored_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    images = open_store(tmp_path / "images")
    days = iter(["2026-11-28", "2026-11-29", "2026-11-29", "2026-11-30"])
    stamps = []

    def now_after(until: str) -> str:
        stamps.append(f"{next(days)}T00:00:0{len(stamps)}.0Z")
        assert stamps[-1] > until
        return stamps[-1]

    monkeypatch.setattr("rayapp.jobs.predict.now_after", now_after)
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:  # the first look found no folder, let alone an image
            for number in range(3):
                images.put(f"{number}.png", picture(number))
            images.put("broken.png", b"text")
        elif len(looks) == 3:
            images.delete(["0.png"])
            images.put("3.png", picture(3))
        elif len(looks) == 4:
            images.put("1.png", picture(41))  # changed
        elif len(looks) == 6:
            raise KeyboardInterrupt

    run = follow(settings(tmp_path), pause)
    assert run is not None
    assert run.counts == {"in": 4, "scored": 3, "failed": 1}
    (traffic,) = read_counts(str(tmp_path / "out")).values()
    by_day = {day: one.total().verdicts.total() for day, one in traffic.days.items()}
    assert by_day == {"2026-11-28": 4, "2026-11-29": 2}
    assert verdicts(tmp_path) == {"scored": 5, "not scored": 1}  # 0.png has gone and stays counted
    table = pq.read_table(tmp_path / "out/scores.parquet")
    times = dict(zip(table["id"].to_pylist(), table["scored_at"].to_pylist(), strict=True))
    assert times["2.png"] == times["broken.png"] == stamps[0]
    assert times["3.png"][:10] == times["1.png"][:10] == "2026-11-29"
    assert "3 scored" not in capfd.readouterr().err
    assert len(list(csv.DictReader((tmp_path / "out/scores.csv").open(encoding="utf-8-sig")))) == 4


def test_a_kill_between_scores_and_counts_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_store(tmp_path / "images")
    images.put("0.png", picture(0))
    asked = settings(tmp_path)

    def once(seconds: float) -> None:
        raise KeyboardInterrupt

    follow(asked, once)
    images.put("1.png", picture(1))
    with monkeypatch.context() as patch:

        def killed(self: object, store: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(day_counts.DayCounts, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            follow(asked, once)
    assert verdicts(tmp_path)["scored"] == 1
    scored = pq.read_table(tmp_path / "out/scores.parquet").to_pylist()
    images.put("2.png", picture(2))
    run = follow(asked, once)
    assert run is not None
    assert run.results["scored_now"] == 1  # 1.png was scored before the kill
    assert verdicts(tmp_path)["scored"] == 3
    again = {row["id"]: row for row in pq.read_table(tmp_path / "out/scores.parquet").to_pylist()}
    assert all(again[row["id"]] == row for row in scored)


def test_scores_of_an_earlier_version_are_followed_on(tmp_path: Path) -> None:
    """Their rows have nothing in a column that came since; one of another type is named."""
    images = open_store(tmp_path / "images")
    for number in range(3):
        images.put(f"{number}.png", picture(number))
    asked = settings(tmp_path, follow_every_s=None)
    predict(asked)
    file = tmp_path / "out/scores.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["reason", "map_logits"]), file)
    images.delete(["0.png"])  # and nothing new
    assert predict(asked).counts == {"in": 2, "scored": 2, "failed": 0}
    assert pq.read_table(file)["reason"].null_count == 2
    old = pq.read_table(file)
    at = old.schema.get_field_index("note")
    pq.write_table(old.set_column(at, "note", pa.array([1] * old.num_rows)), file)
    before = file.read_bytes()
    images.put("3.png", picture(3))
    with pytest.raises(UserError, match=f"{file}: .* do not fit together") as refusal:
        predict(asked)
    assert "\n" not in str(refusal.value)
    assert file.read_bytes() == before


def test_what_is_no_image_is_tried_once_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images, looks = open_store(tmp_path / "images"), []
    images.put("0.png", picture(0))
    images.put("broken.png", b"text")

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            images.put("broken.png", picture(1))
        elif len(looks) == 4:
            raise KeyboardInterrupt

    run = follow(settings(tmp_path), pause)
    assert run is not None
    assert run.counts == {"in": 2, "scored": 2, "failed": 0}
    lines = [line for line in capfd.readouterr().out.splitlines() if "scored now" in line]
    assert [line.split("Z  ")[1][:12] for line in lines] == ["2 scored now", "1 scored now"]
    assert verdicts(tmp_path) == {"scored": 2, "not scored": 1}


def test_what_cannot_be_written_now_is_written_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images, out = open_store(tmp_path / "images"), tmp_path / "out"
    images.put("0.png", picture(0))
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            images.put("1.png", picture(1))
            out.rename(tmp_path / "away")
            out.write_text("in the way")
        elif len(looks) == 2:
            out.unlink()
            (tmp_path / "away").rename(out)
        elif len(looks) == 3:
            raise KeyboardInterrupt

    run = follow(settings(tmp_path), pause)
    assert run is not None
    assert run.counts["scored"] == 2
    assert verdicts(tmp_path)["scored"] == 2
    assert "tried again" in capfd.readouterr().out
    out.rename(tmp_path / "away")
    out.write_text("in the way")
    with pytest.raises(UserError, match="out: can't be written"):
        follow(settings(tmp_path), pause)  # of the first look


def test_a_clock_that_was_set_back_keeps_the_order_and_the_day() -> None:
    first = "2036-01-01T00:00:00.000000Z"
    second = day_counts.now_after(first)
    third, of_before = day_counts.now_after(second), day_counts.now_after(f"{first}++")
    assert first < second < third
    assert f"{first}++" < of_before
    assert {day_counts.day_of(one) for one in (second, third, of_before)} == {today()}
    assert day_counts.day_of(first) == "2036-01-01"
    assert len(third) == len(second)


def test_wrong_use_ends_at_once(tmp_path: Path) -> None:
    asked = settings(tmp_path, input=str(tmp_path / "a.txt"), root=str(tmp_path))
    (tmp_path / "a.txt").write_text("a.png,0,0,4,8\n")
    with pytest.raises(UserError, match="--follow: takes a folder"):
        follow(asked, lambda seconds: None)
    with pytest.raises(ValueError, match="follow_every_s goes with follow"):
        settings(tmp_path, follow=False)
