"""How cores are shared out, and that what is computed side by side is the same."""

from pathlib import Path

import pytest
from PIL import Image

from rayapp.models.folder import save_detector
from rayapp.predict import sharing
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.predict.sharing import batch_rows, cores_beside, shared_out
from rayapp.run.concurrency import batches
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector
from tests.pictures import photographed, saved


@pytest.mark.parametrize(
    ("cores", "threads", "rows", "alone", "expected"),
    [
        (2, 1, 500, False, (1, 2)),
        (2, 2, 500, False, (2, 1)),
        (2, 4, 500, False, (4, 1)),
        (2, 1, 1, False, (2, 1)),
        (8, 2, 3, False, (2, 3)),
        (64, 1, 500, False, (8, 8)),
        (2, 1, 0, False, (2, 1)),
        (16, 1, 500, True, (16, 1)),
    ],
)
def test_cores_are_shared_out(
    cores: int, threads: int, rows: int, alone: bool, expected: tuple[int, int]
) -> None:
    assert shared_out(cores, threads, rows, alone=alone) == expected


def test_every_stream_gets_batches() -> None:
    assert [batch_rows(rows, 8) for rows in (1, 31, 500, 10_000)] == [1, 1, 15, 64]


def test_a_worker_decodes_by_the_cores_that_fall_to_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    monkeypatch.setattr(sharing, "_CARDS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(32)))
    assert [cores_beside(gpus) for gpus in (0.25, 1, 2, 8)] == [2, 8, 16, 32]


def test_scores_are_the_same_however_many_batches_are_under_way(tmp_path: Path) -> None:
    for seed in range(9):
        picture = Image.fromarray(photographed(90 + seed, 80, seed))
        (tmp_path / f"{seed}.jpg").write_bytes(saved(picture, "JPEG"))
    (tmp_path / "9.jpg").write_bytes(b"no image")
    save_detector(tiny_detector(size=64), open_store(tmp_path / "d"))
    rows = [{"id": f"{seed}.jpg", "path": f"{seed}.jpg"} for seed in range(10)]
    found = []
    for at_once in (1, 3):
        root = open_store(tmp_path)
        work = PredictRows(ScorerSpec(str(tmp_path / "d")), root, 1, side_by_side=at_once)
        work.setup()
        found.append([row for some in batches(work, rows, 2, at_once) for row in some])
    assert [row["status"] for row in found[0]] == ["ok"] * 9 + ["failed"]
    for one, other in zip(*found, strict=True):
        assert one.get("logit") == pytest.approx(other.get("logit"), abs=1e-6)
        assert (one["id"], one["error"]) == (other["id"], other["error"])
