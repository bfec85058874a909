"""Counts of traffic: what is counted as what, and that parts add up exactly."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import parser

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.metrics.traffic import (
    EDGES,
    FORMATS,
    NUM_BINS,
    SIZES,
    Traffic,
    decided_by,
    dense,
    group_of,
    reason_kind,
)
from rayapp.metrics.traffic_files import read_counts, read_reference, write_reference
from rayapp.models.verdicts import Judge
from rayapp.storage.uris import open_store
from tests.models.test_verdicts import calibration

DAY = "2026-11-29"


def row(logit: float | None = 1.0, **more: object) -> dict[str, object]:
    known = {"format": "JPEG", "width": 640, "height": 480, "verdict": "synthetic"}
    return {"logit": logit, "status": "ok", "path": "a/secret name.jpg", **known, **more}


def rows(count: int, seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        row(
            float(rng.normal(0, 4)),
            format=str(rng.choice([*FORMATS, "PCX"])),
            width=int(rng.integers(1, 5000)),
            verdict=str(rng.choice(["real", "synthetic", "unsure"])),
            declared=str(rng.choice(["nothing", "camera", "ai-generated"])),
            reason=str(rng.choice(["", "nothing but noise", "too few pixels: 20×20, …"])),
        )
        for _ in range(count)
    ]


def counted(given: list[dict[str, object]], day: str = DAY) -> Traffic:
    traffic = Traffic("d" * 64, "c")
    for one in given:
        traffic.add(one, day)
    return traffic


def test_edges_are_fixed_and_a_logit_lies_between_its_own() -> None:
    assert len(EDGES) == 257
    assert NUM_BINS == 258
    assert EDGES[128] == 0
    assert EDGES[129] == pytest.approx(1 / 64, rel=1e-3)
    assert EDGES[-1] == pytest.approx(372.6, abs=0.1)
    for logit in (-1e9, -3.2, 0.0, 0.01, 5.0, 1e9):
        (at,) = counted([row(logit)]).whole().total().logits
        assert at == 0 or EDGES[at - 1] <= logit
        assert at == len(EDGES) or logit < EDGES[at]


def test_parts_add_up_exactly_in_any_order() -> None:
    given = rows(300, 0)
    whole = counted(given)
    parts = [counted(given[at::3]) for at in range(3)]
    for order in itertools.permutations(parts):
        total = Traffic("d" * 64, "c")
        for part in order:
            total.merge(part)
        assert total == whole
        assert total.to_json() == whole.to_json()
    assert dense(whole.whole().total().logits).sum() == 300


def test_counts_of_another_detector_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="another detector or calibration"):
        Traffic("a", "c").merge(Traffic("b", "c"))
    with pytest.raises(ValueError, match="another detector or calibration"):
        Traffic("a", "c").merge(Traffic("a", "d"))


def test_text_and_back_and_no_name_in_it() -> None:
    whole = counted(rows(50, 1))
    whole.add(row(), "2026-11-30")
    assert Traffic.from_json(whole.to_json()) == whole
    assert "secret" not in whole.to_json()
    assert list(json.loads(whole.to_json())["days"]) == [DAY, "2026-11-30"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": 1}', b"\xff"])
def test_what_holds_no_counts_is_said_in_a_line(text: str | bytes) -> None:
    with pytest.raises(UserError, match="x: holds no counts of traffic"):
        Traffic.from_json(text, "x")


def test_a_day_is_bounded_whatever_comes() -> None:
    traffic = Traffic()
    for at in range(3000):
        odd = {"format": f"F{at}", "declared": f"d{at}", "reason": f"why {at}"}
        traffic.add(row(float(at - 1500), width=at, height=9999, **odd), DAY)
    day = traffic.whole()
    assert len(day.groups) <= len(SIZES) + 1
    assert set(day.declared) == set(day.reasons) == {"other"}


def test_what_could_not_be_scored_is_counted_and_has_no_logit() -> None:
    traffic = counted([row(None, status="failed", verdict=None), row(float("nan")), row()])
    total = traffic.whole().total()
    assert total.verdicts == {"not scored": 2, "synthetic": 1}
    assert total.logits.total() == 1


def test_formats_sizes_and_reasons_by_name() -> None:
    assert group_of(row()) == ("JPEG", "256–511 px")
    assert group_of({"format": "PCX", "width": None, "height": None}) == ("other", "other")
    assert group_of({"format": "PNG", "width": 100, "height": 9000}) == ("PNG", "below 128 px")
    assert group_of({"format": "PNG", "width": 4096, "height": 9000}) == ("PNG", "from 4096 px")
    judge = Judge("centre-32", calibration())
    assert reason_kind(judge.reason("unsure")) == "in the unsure band"
    assert reason_kind("nothing but plain areas") == "nothing to judge by"
    assert reason_kind("something new") == "other"


def score_table(count: int) -> pa.Table:
    rng = np.random.default_rng(2)
    found = [
        {
            "id": f"{at:03d}",
            "path": f"{at:03d}.png",
            "logit": None if at % 7 == 0 else float(rng.normal(0, 2)),
            "status": "failed" if at % 7 == 0 else "ok",
            "format": "PNG",
            "width": 300,
            "height": 200 + at,
            "declared": "camera" if at % 2 else "nothing",
            "reason": "nothing but noise" if at % 5 == 0 else "",
        }
        for at in range(count)
    ]
    return manifest.from_rows(found, scores.schema())


def test_a_table_counts_as_its_rows_with_the_judges_verdicts() -> None:
    table, judge = score_table(60), Judge("centre-32", calibration())
    traffic = Traffic("d", decided_by(judge))
    traffic.add_table(table, judge, DAY)
    at, logits, verdicts = judge.table(table)
    by_rows = Traffic("d", decided_by(judge))
    judged = {
        int(row): (float(logit), word, why)
        for row, logit, word, why in zip(at, logits, verdicts.words, verdicts.reasons, strict=True)
    }
    for number, one in enumerate(table.to_pylist()):
        logit, word, why = judged.get(number, (None, None, None))
        by_rows.add(one | {"logit": logit, "verdict": word, "reason": why}, DAY)
    assert traffic == by_rows
    assert traffic.whole().total().verdicts["not scored"] == 9


def test_decisions_are_told_apart() -> None:
    given = calibration()
    judges = [
        Judge("x", given),
        Judge("x", given, threshold=0.3),
        Judge("x", given, trust_declared="any"),
        Judge("x", None),
    ]
    assert len({decided_by(one) for one in judges}) == 4


def test_prometheus_lines_are_read_back() -> None:
    traffic = counted([row(verdict='odd "class"\\'), row(-2.0, reason="depends on delivery: p …")])
    families = {
        one.name: one for one in parser.text_string_to_metric_families(traffic.prometheus())
    }
    samples = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for sample in families["imaginet_logit"].samples
    }
    assert samples["imaginet_logit_count", ""] == 2
    assert samples["imaginet_logit_bucket", "+Inf"] == 2
    assert samples["imaginet_logit_bucket", "0"] == 1
    assert samples["imaginet_logit_sum", ""] == pytest.approx(-1, abs=0.15)
    verdicts = {one.labels["verdict"]: one.value for one in families["imaginet_verdicts"].samples}
    assert verdicts == {'odd "class"\\': 1, "synthetic": 1}
    (reason,) = families["imaginet_reasons"].samples
    assert reason.labels["reason"] == "depends on delivery"


def test_a_folder_of_counts_adds_up_by_detector(tmp_path) -> None:
    given = rows(40, 3)
    store = open_store(tmp_path)
    store.put("a.json", counted(given[:15]).to_json().encode())
    store.put("traffic/b.json", counted(given[15:]).to_json().encode())
    store.put("c.json", Traffic("other", "c").to_json().encode())
    store.put("run.json", b"{}")
    found = read_counts(str(tmp_path))
    assert set(found) == {("d" * 64, "c"), ("other", "c")}
    assert found["d" * 64, "c"] == counted(given)
    with pytest.raises(UserError, match="holds no counts of traffic"):
        read_counts(str(tmp_path / "nothing"))


def test_a_reference_has_its_classes(tmp_path) -> None:
    store = open_store(tmp_path)
    assert read_reference(str(tmp_path)) is None
    classes = {"real": counted(rows(9, 4)), "synthetic": counted(rows(8, 5))}
    write_reference(store, classes)
    assert read_reference(str(tmp_path)) == classes
    store.put("reference.json", b"[1]")
    with pytest.raises(UserError, match="holds no counts"):
        read_reference(str(tmp_path))
