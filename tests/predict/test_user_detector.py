from pathlib import Path

import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.predict.user_detector import UserScorer, read_user_detector

IMAGES = [np.full((4, 6, 3), value, np.uint8) for value in (0, 51, 255)]


def scorer(folder: Path, text: str) -> UserScorer:
    (folder / "mine.py").write_text(text)
    return UserScorer(read_user_detector(str(folder / "mine.py")), None)


def scored(folder: Path, text: str) -> list[float]:
    own = scorer(folder, text)
    return [one for (one,) in own.score([own.see(image) for image in IMAGES])]


def test_probabilities_become_logits_and_logits_stay(tmp_path: Path):
    probabilities = "def predict(images):\n    return [float(i.mean()) / 255 for i in images]\n"
    assert scored(tmp_path, probabilities) == pytest.approx([-36, np.log(0.25), 36])
    logits = "LOGITS = True\ndef predict(images):\n    return [i.shape[1] for i in images]\n"
    assert scored(tmp_path, logits) == [6, 6, 6]


def test_what_lies_beside_the_file_can_be_imported(tmp_path: Path):
    (tmp_path / "beside_mine.py").write_text("HALF = 0.5")
    text = "import beside_mine\ndef predict(images):\n    return [beside_mine.HALF] * len(images)\n"
    assert scored(tmp_path, text) == [0, 0, 0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return [0.5]", "gave 1 scores for 3 images"),
        ("return [0.5, 7.0, 0.5]", "gave 7, a probability is wanted .or set LOGITS = True"),
    ],
)
def test_wrong_scores_are_said(body: str, words: str, tmp_path: Path):
    with pytest.raises(UserError, match=rf"mine\.py: predict {words}|mine\.py: .*{words}"):
        scored(tmp_path, f"def predict(images):\n    {body}\n")


def test_what_is_no_number_is_handed_on_to_be_named(tmp_path: Path):
    text = "def predict(images):\n    return [0.5, float('nan'), float('inf')]\n"
    np.testing.assert_array_equal(scored(tmp_path, text), [0.0, np.nan, np.inf])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def predict(images:\n", "mine.py:1: not Python"),
        ("x = 1\n", "defines no predict"),
        ("# def predict\n", "defines no predict"),
    ],
)
def test_files_that_are_no_detector_are_refused(text: str, words: str, tmp_path: Path):
    with pytest.raises(UserError, match=words):
        scorer(tmp_path, text)


def test_the_hash_is_of_the_text_and_reading_runs_nothing(tmp_path: Path):
    text = f"open({str(tmp_path / 'ran')!r}, 'w')\ndef predict(images): pass\n"
    (tmp_path / "mine.py").write_text(text)
    before = read_user_detector(str(tmp_path / "mine.py")).hash
    (tmp_path / "mine.py").write_text(text + "# other\n")
    assert read_user_detector(str(tmp_path / "mine.py")).hash != before
    assert not (tmp_path / "ran").exists()
