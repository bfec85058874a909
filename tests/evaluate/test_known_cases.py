"""Known cases: which changed sides against the last detector, whatever that is given as."""

import csv
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.config.settings import EXIT_MISSES
from rayapp.dataset.labels import Item, load_scheme
from rayapp.evaluate.case_changes import as_text
from rayapp.evaluate.known_cases import read_cases
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.jobs.report import REPORT_FILE, report
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.metrics.regressions import KnownCase
from rayapp.report.settings import ReportSettings
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector
from tests.pictures import photographed, saved

ROOT = Path(__file__).resolve().parents[2]
SCHEME = load_scheme("demo")
PATHS = ("broke.png", "mended, so.png", "right.png", "wrong.png", "new.png")
KNOWN = dict(zip(PATHS, ("real", "synthetic", "real", "synthetic", "real"), strict=True))
BEFORE, NOW = (-2.0, -2.0, -3.0, -1.0), (1.0, 2.0, -2.0, -2.0, 3.0)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Two detectors with scores; the last one does not know the last case."""
    items = [Item(path, path, (0, 0, 4, 4)) for path in PATHS]
    detectors = [saved_detector(tmp_path / name, seed) for seed, name in enumerate(("old", "new"))]
    scores = [
        saved_scores(tmp_path / "s-old", tiny_detector(0), items[:4], np.array(BEFORE), SCHEME),
        saved_scores(tmp_path / "s-new", tiny_detector(1), items, np.array(NOW), SCHEME),
    ]
    lines = [f"{path},{int(word == 'synthetic')}\n" for path, word in KNOWN.items()]
    (tmp_path / "reviewed.csv").write_text("".join(lines))
    return {
        "detector": detectors[1],
        "scores": tuple(scores),
        "regressions": str(tmp_path / "reviewed.csv"),
        "output": str(tmp_path / "out"),
        "resamples": 100,
    }


def found(settings: dict[str, Any]) -> Results:
    run = evaluate(EvaluateSettings(**settings))
    return Results.model_validate_json(run.store.get(EVALUATION_FILE))


def table(out: Path, name: str = "new") -> dict[str, dict[str, str]]:
    with (out / f"regressions/{name}.csv").open() as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_against_the_last_detectors_folder(given: dict, tmp_path: Path) -> None:
    (one,) = found(given | {"against": str(tmp_path / "old")}).regressions
    changes = {path: row["change"] for path, row in table(tmp_path / "out").items()}
    assert changes == {
        "broke.png": "broke",
        "mended, so.png": "mended",
        "right.png": "stays right",
        "wrong.png": "stays wrong",
        "new.png": "new, wrong",
    }
    assert one.counted == (
        "5 known cases: 1 broke; 1 mended; 1 stays wrong; 1 stays right; 1 new, wrong"
    )
    assert one.failed
    text = as_text(one)
    first = text.splitlines()[2].split()
    assert first == ["broke.png", "broke", "real", "real", "synthetic", "0.119", "0.731"]
    assert "right.png" not in text
    assert text.splitlines()[-1].strip() == one.counted


def test_against_an_earlier_output_of_evaluate_or_predict(given: dict, tmp_path: Path) -> None:
    by_folder = found(given | {"against": str(tmp_path / "old")}).regressions[0]
    earlier = given | {"detector": str(tmp_path / "old"), "output": str(tmp_path / "earlier")}
    found(earlier)
    again = given | {"output": str(tmp_path / "again")}
    by_output = found(again | {"against": str(tmp_path / "earlier")}).regressions[0]
    assert by_output.counts == by_folder.counts
    (tmp_path / "told").mkdir()
    p = 1 / (1 + np.exp(-np.array(BEFORE)))
    rows = [
        f'"./{one}",real (uncalibrated),{value}\n' for one, value in zip(PATHS, p, strict=False)
    ]
    (tmp_path / "told/scores.csv").write_text("\ufeffpath,verdict,probability\n" + "".join(rows))
    told = given | {"output": str(tmp_path / "third"), "against": str(tmp_path / "told")}
    assert found(told).regressions[0].counts == by_folder.counts


def test_the_images_of_an_earlier_evaluation_are_known_too(given: dict, tmp_path: Path) -> None:
    items = listed(tmp_path / "test.txt", [0, 1] * 10, SCHEME)
    logits = np.array([-1.0, 1.0] * 10)
    scores = saved_scores(tmp_path / "s", tiny_detector(0), items, logits, SCHEME)
    earlier = {
        "detector": str(tmp_path / "old"),
        "scores": scores,
        "annotations": str(tmp_path / "test.txt"),
        "scheme": "demo",
        "resamples": 100,
        "output": str(tmp_path / "earlier"),
    }
    found(earlier)
    new = saved_scores(tmp_path / "s2", tiny_detector(1), items, np.array([-1.0] * 20), SCHEME)
    asked = given | {"scores": new, "regressions": str(tmp_path / "test.txt"), "scheme": "demo"}
    (one,) = found(asked | {"against": str(tmp_path / "earlier")}).regressions
    assert one.counts == {"broke": 10, "stays right": 10}


def test_what_has_no_score_is_named_and_fails(given: dict, tmp_path: Path) -> None:
    with (tmp_path / "reviewed.csv").open("a") as file:
        file.write("gone.png,1\n")
    (one,) = found(given).regressions
    assert one.counts == {"new, wrong": 3, "new, right": 2, "not scored": 1}
    assert one.counted.startswith("6 known cases: 3 wrong; 2 right; 1 not scored")
    assert one.failed
    assert "not scored: gone.png: no score of it" in as_text(one)


def test_all_marks_of_the_gallery_without_those_unclear(tmp_path: Path) -> None:
    sheet = tmp_path / "marks.csv"
    sheet.write_text('path,mark,verdict\n"a, b.png",real,real\nc.png,unclear,\nd.png,synthetic,x\n')
    cases = read_cases([str(sheet)], "imaginet")
    assert cases.known == {"a, b.png": "real", "d.png": "synthetic"}
    assert cases.left_out == 1
    (tmp_path / "other.csv").write_text("d.png,0\n")
    with pytest.raises(UserError, match=r"d\.png: synthetic in .*marks\.csv, real in .*other"):
        read_cases([str(sheet), str(tmp_path / "other.csv")], "imaginet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png;1\n", r"list\.csv:1: 1 columns, 2 wanted"),
        ("a.png,2\n", r"list\.csv:1: origin 2"),
        ("path,mark\na.png,fake\n", r"row 2: mark 'fake' is not real, synthetic or unclear"),
        ("path,mark\n../a.png,real\n", "row 2: .* leaves the root"),
        ("path,mark\na.png,unclear\n", "no image is marked"),
    ],
)
def test_a_wrong_list_is_refused_by_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_cases([str(tmp_path / "list.csv")], "imaginet")


def test_unsure_is_not_right() -> None:
    case = KnownCase(path="a", known="real", before="real", now="unsure")
    assert case.change == "broke"
    assert case.model_copy(update={"before": "synthetic"}).change == "stays wrong"
    assert case.model_copy(update={"before": "unsure", "now": "real"}).change == "mended"


def test_the_page_shows_them(given: dict, tmp_path: Path) -> None:
    found(given | {"against": str(tmp_path / "old")})
    settings = ReportSettings(evaluations=(given["output"],), output=str(tmp_path / "page"))
    report(settings)
    html = (tmp_path / "page" / REPORT_FILE).read_text()
    assert "Known cases" in html
    assert "1 broke; 1 mended" in html
    assert html.count("mended, so.png") >= 1


def test_against_goes_with_known_cases(given: dict) -> None:
    with pytest.raises(ValidationError, match="goes with --regressions"):
        EvaluateSettings(**{k: v for k, v in given.items() if k != "regressions"}, against="x")


def test_from_images_each_is_scored_by_both_detectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detectors = [saved_detector(tmp_path / name, seed) for seed, name in enumerate(("old", "new"))]
    (tmp_path / "images").mkdir()
    for seed in range(4):
        picture = saved(Image.fromarray(photographed(60, 60, seed)), "PNG")
        (tmp_path / f"images/{seed}.png").write_bytes(picture)
    (tmp_path / "reviewed.csv").write_text("".join(f"{at}.png,{at % 2}\n" for at in range(5)))
    words = ["evaluate", "--detector", detectors[1], "--against", detectors[0]]
    words += ["--regressions", str(tmp_path / "reviewed.csv"), "--root", str(tmp_path / "images")]
    words += ["--output", str(tmp_path / "out"), "--resamples", "100"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs/evaluate.py"), run_name="__main__")
    assert ended.value.code == EXIT_MISSES  # the fifth image is not there
    rows = table(tmp_path / "out")
    assert rows["4.png"]["change"] == "not scored"
    for name, column in (("old", "p_before"), ("new", "p_now")):
        images = [tmp_path / f"images/{at}.png" for at in range(4)]
        p = load_detector(tmp_path / name).probability(images)
        found = [float(rows[f"{at}.png"][column]) for at in range(4)]
        np.testing.assert_allclose(found, p, atol=1e-5)
    printed = capsys.readouterr().out
    assert "5 known cases: " in printed
    assert "not scored: 4.png: " in printed
    assert str(tmp_path / "out/regressions") in printed
