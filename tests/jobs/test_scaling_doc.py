"""docs/scaling.md says what the model says."""

from pathlib import Path

from benchmarks.scaling import SIZES, model_tables

DOC = Path(__file__).parents[2] / "docs/scaling.md"


def test_the_tables_are_those_of_the_model():
    text = DOC.read_text()
    for line in model_tables().splitlines():
        assert line in text, f"run benchmarks/scaling.py --only model: {line}"
    assert len(SIZES) == 3
