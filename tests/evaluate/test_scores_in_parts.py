"""Scores of a large set, in a folder of parts: the same figures as of one table of the list."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset.labels import load_scheme
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.metrics.evaluation import EVALUATION_FILE
from rayapp.models.folder import load_detector
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")
ORIGINS = [0, 1] * 150
PARTS, OTHERS = 20, 5_000  # of each part, rows that no list names


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """A list with its scores in one table, and those of a far larger set in parts."""
    items = listed(tmp_path / "list.txt", ORIGINS, SCHEME)
    logits = np.random.default_rng(0).normal(3 * np.array(ORIGINS), 1.0)
    one = saved_scores(tmp_path / "one", tiny_detector(), items, logits, SCHEME)
    table = pq.read_table(tmp_path / "one/scores.parquet")
    folder = tmp_path / "many/scores"
    folder.mkdir(parents=True)
    order = np.random.default_rng(1).permutation(len(items))
    for at in range(PARTS):
        mine = table.take(pa.array(order[at::PARTS]))
        names = [f"other/{at}-{number:06d}.png" for number in range(OTHERS)]
        others = {
            "id": names,
            "path": names,
            "logit": pa.array(np.full(OTHERS, 9.0), pa.float32()),
            "detector_hash": [table["detector_hash"][0].as_py()] * OTHERS,
            "sha256": [f"{at * OTHERS + number:064x}" for number in range(OTHERS)],
        }
        part = pa.concat_tables([pa.table(others), mine], promote_options="permissive")
        part = part.append_column("row", pa.array(range(part.num_rows), pa.int64()))
        pq.write_table(
            part.replace_schema_metadata(table.schema.metadata), folder / f"p{at}.parquet"
        )
    (folder / "_manifest").write_text("{}")
    detector = saved_detector(tmp_path / "detector")
    return {"one": str(one), "many": str(tmp_path / "many"), "detector": str(detector)}


def test_calibration_and_evaluation_are_those_of_one_table(
    given: dict[str, str], tmp_path: Path
) -> None:
    figures, calibrations = [], []
    for form in ("one", "many"):
        for uri in (given[form], f"{given[form]}/scores"):
            if form == "one" and uri != given[form]:
                continue
            same = {"annotations": str(tmp_path / "list.txt"), "scheme": "demo"}
            output = tmp_path / f"out-{len(figures)}"
            calibrate(
                CalibrateSettings(
                    detector=given["detector"], scores=(uri,), output=str(output / "d"), **same
                )
            )
            calibrations.append(load_detector(str(output / "d")).spec.calibration)
            evaluated = evaluate(
                EvaluateSettings(
                    detector=(given["detector"],), scores=(uri,), output=str(output / "e"),
                    resamples=100, record=False, **same,
                )
            )  # fmt: skip
            told = json.loads(evaluated.store.get(EVALUATION_FILE))
            figures.append([one["slices"] for one in told["evaluations"]])
    assert calibrations[0] == calibrations[1] == calibrations[2]
    assert figures[0] == figures[1] == figures[2]
    assert len(figures) == 3


HELD = """
import sys
import pyarrow as pa
from rayapp.dataset import scores
uri, digest, *wanted = sys.argv[1:]
rows = scores.read_matching([uri], digest, paths=wanted)
few = pa.default_memory_pool().max_memory()
whole = scores.read_matching([uri], digest)
print(rows.num_rows, whole.num_rows, few, pa.default_memory_pool().max_memory())
"""


def test_what_is_held_is_what_is_wanted(given: dict[str, str]) -> None:
    digest = load_detector(given["detector"]).hash()
    wanted = pq.read_table(f"{given['one']}/scores.parquet")["path"].to_pylist()
    command = [sys.executable, "-c", HELD, given["many"], digest, *wanted]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    few_rows, all_rows, few, whole = map(int, told.split())
    assert (few_rows, all_rows) == (len(wanted), PARTS * OTHERS + len(wanted))
    assert few < whole / 5
