"""Each detector on what its own training lists lack, and intervals over prompts and sources."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, write_list
from rayapp.evaluate.left_out import as_text
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.models.folder import save_detector
from rayapp.storage.uris import open_store
from tests.detectors import listed, saved_scores, tiny_detector

SCHEME = load_scheme("demo")
NAMES = SCHEME.names("generator")
ORIGINS = [0, 1] * 100
HELD = (1, 3)  # generators that the list has, of which each detector lacks one
SOURCES = ("phone", "press")


def source_of(at: int) -> str:
    return SOURCES[at // 2 % 2]


@pytest.fixture
def given(tmp_path: Path) -> dict:
    """Two detectors, each trained without one generator and one source, and their scores."""
    items = listed(tmp_path / "test.txt", ORIGINS, SCHEME)
    rows = [
        {"path": item.path, "source": source_of(at), "prompt": f"prompt {at // 20}"}
        for at, item in enumerate(items)
    ]
    root = tmp_path / "images"
    root.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    detectors, scores = [], []
    for number in (0, 1):
        lists = open_store(tmp_path)
        kept = [
            item
            for at, item in enumerate(items)
            if item.labels[2] != HELD[number]
            and (item.labels[0] or source_of(at) != SOURCES[number])
        ]
        write_list(lists, f"train{number}.txt", kept, SCHEME)
        trained = {
            "annotations": [str(tmp_path / f"train{number}.txt")],
            "root": str(root),
            "scheme": "demo",
        }
        detector = tiny_detector(number)
        spec = detector.spec.model_copy(update={"provenance": {"settings": trained}})
        detector.spec = spec
        save_detector(detector, open_store(tmp_path / f"d{number}"))
        detectors.append(str(tmp_path / f"d{number}"))
        random = np.random.default_rng(number)
        logits = random.normal(2 * np.array(ORIGINS), 1.0)
        logits -= 2 * np.array(
            [item.labels[2] == HELD[number] for item in items]
        )  # not known, not seen
        folder = tmp_path / f"scores{number}"
        saved_scores(folder, detector, items, logits, SCHEME)
        table = pq.read_table(folder / "scores.parquet")
        known = dict(table.schema.metadata) | {b"images_root": str(root).encode()}
        pq.write_table(table.replace_schema_metadata(known), folder / "scores.parquet")
        scores.append(str(folder))
    return {
        "detector": tuple(detectors),
        "scores": tuple(scores),
        "annotations": str(tmp_path / "test.txt"),
        "root": str(root),
        "scheme": "demo",
        "resamples": 100,
        "record": False,
        "output": str(tmp_path / "out"),
    }


def results_of(given: dict, **changes: object) -> Results:
    run = evaluate(EvaluateSettings(**given | changes))
    return Results.model_validate_json(run.store.get(EVALUATION_FILE))


def test_each_generator_is_judged_by_the_detector_that_was_not_trained_on_it(given: dict) -> None:
    results = results_of(given, leave_out="generator")
    assert [(row.name, row.detector) for row in results.left_out] == [
        (NAMES[1], "d0"),
        (NAMES[3], "d1"),
    ]
    for row, evaluation in zip(results.left_out, results.evaluations, strict=True):
        part = evaluation.slice("generator", row.name)
        assert part is not None
        assert row.roc_auc == part.figures["roc_auc"]
        assert (row.num_real, row.num_synthetic) == (100, 50)
        held_out = evaluation.slice("training", "held-out")
        assert held_out is not None
        assert held_out.figures["roc_auc"].value == row.roc_auc.value
        seen = evaluation.slice("training", "seen")
        assert seen is not None
        assert seen.figures["roc_auc"].value > 0.8 > row.roc_auc.value
    text = as_text(results.left_out)
    assert "mean of 2: " in text
    assert "lowest: " in text


def test_sources_of_reals_are_left_out_the_same_way(given: dict) -> None:
    results = results_of(given, leave_out="source")
    assert [(row.name, row.detector) for row in results.left_out] == [
        ("phone", "d0"),
        ("press", "d1"),
    ]
    assert {(row.num_real, row.num_synthetic) for row in results.left_out} == {(50, 100)}
    assert all(one.held_out == () for one in results.evaluations)
    assert {p.name for p in results.evaluations[0].slices if p.column == "source"} == set(SOURCES)


def test_a_detector_whose_lists_are_gone_is_named(given: dict, tmp_path: Path) -> None:
    (tmp_path / "train1.txt").unlink()
    with pytest.raises(UserError, match=r"d1: --leave-out needs what it was trained on, and .*"):
        results_of(given, leave_out="model")


def test_intervals_resample_what_shares_a_prompt(given: dict) -> None:
    first = results_of(given).evaluations[0]
    grouped = results_of(given, resample_by="prompt", overwrite=True).evaluations[0]
    assert (first.resampled, first.num_groups) == ("images", 200)
    assert (grouped.resampled, grouped.num_groups) == ("groups by photograph, prompt", 20)
    one, other = first.whole.figures["roc_auc"], grouped.whole.figures["roc_auc"]
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)
    with pytest.raises(UserError, match="no column camera"):
        results_of(given, resample_by="camera", overwrite=True)
