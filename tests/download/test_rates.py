"""The note of the progress line."""

from __future__ import annotations

from rayapp.config.errors import UserError
from rayapp.download.fetch_task import Done
from rayapp.download.rates import SourceRates
from rayapp.download.source_plan import SourcePlan, Task
from rayapp.jobs.download import _blocks, _plain


def test_each_source_has_its_bytes_a_second_and_time_left() -> None:
    now = [0.0]
    plans = [
        SourcePlan("coco", 1000, num_present=100),
        SourcePlan("ffhq", 50),
        SourcePlan("wikiart", 10),
    ]
    rates = SourceRates(plans, lambda: now[0])
    assert rates.note() == "0.0 MB/s"
    now[0] = 10.0
    rates.add(Done("coco", 100, 0, 10_000_000, 9))
    rates.add(Done("ffhq", 1, 0, 0, 1))
    assert "coco 200/1,000" in rates.note()  # one result gives no rate yet
    now[0] = 20.0
    rates.add(Done("coco", 200, 0, 10_000_000, 9))
    rates.add(Done("ffhq", 10, 1, 30_000_000, 9))
    note = rates.note()
    assert note.startswith("2.5 MB/s · ")
    assert "coco 400/1,000 2.0 MB/s 30 s left" in note
    assert "ffhq 11/50 3.0 MB/s 39 s left" in note
    assert "wikiart" not in note  # nothing of it has come
    fronts = set()
    for now[0] in (20.0, 23.0):
        fronts.add(rates.note().split(" · ")[1].split()[0])
    assert fronts == {"coco", "ffhq"}
    rates.add(Done("coco", 600, 0, 1, 1))
    assert "coco" not in rates.note()  # done


def test_sources_take_turns_and_streams_are_alone() -> None:
    tasks = [Task("coco", f"c{n}", "range", "u", 1, 1) for n in range(1200)]
    tasks += [Task("journeydb", "s", "stream", "u", 1, 1)]
    blocks = [[Task(**row) for row in block.to_pylist()] for block in _blocks(tasks)]
    assert blocks[0] == [tasks[-1]]
    assert len(blocks) == 513
    assert sorted(task.key for block in blocks for task in block) == sorted(t.key for t in tasks)
    assert list(_blocks([])) == []


def test_what_a_task_raised_is_one_line() -> None:
    class Raised(Exception):
        cause: Exception | None = None

    error = Raised("Traceback\n  File x\nValueError: why")
    assert str(_plain(error)) == "ValueError: why; the same command goes on from here"
    error.cause = UserError("s3://b/k: the secret key is wrong")
    assert _plain(error) is error.cause
