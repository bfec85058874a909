import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme
from rayapp.evaluate.bench import Bench
from rayapp.evaluate.csv_tables import as_text
from rayapp.evaluate.detectors import load_all
from rayapp.evaluate.settings import EvaluateSettings, load_suites
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.jobs.report import REPORT_FILE, report
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.report.settings import ReportSettings
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")


@pytest.fixture
def given(tmp_path: Path) -> dict:
    """Two detectors with scores of the same 200 images; the second is worse."""
    return scored(tmp_path, (2.0, 1.0))


def scored(tmp_path: Path, gaps: tuple[float, float]) -> dict:
    """Settings for two detectors; of each, how far it tells the classes apart."""
    origins = [0, 1] * 100
    items = listed(tmp_path / "test.txt", origins, SCHEME)
    random = np.random.default_rng(1)
    groups = [f"photo {n % 10}" for n in range(200)]
    detectors, scores = [], []
    for seed, gap in enumerate(gaps):
        detectors.append(saved_detector(tmp_path / f"d{seed}", seed))
        logits = random.normal(gap * np.array(origins), 1.0)
        folder = tmp_path / f"scores{seed}"
        scores.append(saved_scores(folder, tiny_detector(seed), items, logits, SCHEME, groups))
    return {
        "detector": tuple(detectors),
        "scores": tuple(scores),
        "annotations": str(tmp_path / "test.txt"),
        "scheme": "demo",
        "name": "my images",
        "resamples": 100,
        "output": str(tmp_path / "out"),
    }


@pytest.mark.ray
def test_detectors_side_by_side(given: dict, tmp_path: Path):
    settings = EvaluateSettings(**given, held_out=("pixel shuffle",), same_recipe=True)
    run = evaluate(settings, command="python jobs/evaluate.py")
    results = Results.model_validate_json(run.store.get(EVALUATION_FILE))
    first, second = results.evaluations
    assert (first.detector_name, second.detector_name) == ("d0", "d1")
    assert (first.resampled, first.num_groups) == ("photographs", 10)
    seen, held_out = first.slice("training", "seen"), first.slice("training", "held-out")
    assert seen is not None
    assert held_out is not None
    assert seen.num_synthetic + held_out.num_synthetic == 100
    lines = list(csv.DictReader(Path(given["output"], "metrics.csv").read_text().splitlines()))
    assert len(lines) == sum(len(one.slices) + 1 for one in results.evaluations)
    auc = first.whole.figures["roc_auc"].value
    assert float(lines[0]["roc_auc"]) == pytest.approx(auc, abs=1e-6)
    alone = Bench(settings, load_all(settings.detector, ())).pairings(load_suites(settings))
    for evaluation, pairing in zip(results.evaluations, alone, strict=True):
        tasks = pairing.measurements.tasks.items()
        here = {name: task.call(*task.shared, *task.arguments) for name, task in tasks}
        assert (
            pairing.measurements.evaluation(here, {}) == evaluation
        )  # Ray or one process: the same
    pair = next(c for c in results.comparisons if (c.slice, c.figure) == ("all", "roc_auc"))
    assert pair.difference.value == pytest.approx(auc - second.whole.figures["roc_auc"].value)
    accuracy = {c.slice: c for c in results.comparisons if c.figure == "balanced_accuracy"}
    assert set(accuracy) == {one.name for one in first.slices}
    for name, one in accuracy.items():
        values = [
            next(s for s in e.slices if s.name == name).figures["balanced_accuracy"].value
            for e in (first, second)
        ]
        assert one.difference.value == pytest.approx(values[0] - values[1])
    both = [pq.read_table(Path(given["output"], e.evidence)) for e in (first, second)]
    p, q = (table["probability"].to_numpy() for table in both)
    sides, truth = [p >= 0.5, q >= 0.5], both[0]["origin"].to_numpy() == 1
    (changes,) = results.changes
    text = Path(given["output"], changes.file).read_text()
    listed = list(csv.DictReader(text.splitlines()))
    changed = set(np.array(both[0]["path"].to_pylist())[sides[0] != sides[1]])
    assert {line["path"] for line in listed} == changed
    assert 0 < len(listed) == changes.first_right + changes.second_right < changes.num_images == 200
    assert changes.first_right == ((sides[0] == truth) & (sides[1] != truth)).sum()
    moved = [abs(float(line["P by d0"]) - float(line["P by d1"])) for line in listed]
    assert moved == sorted(moved, reverse=True)
    assert [line["right"] for line in listed].count("d0") == changes.first_right
    spread = next(s for s in results.spreads if s.figure == "roc_auc")
    assert spread.num_runs == 2
    evidence = pq.read_table(Path(given["output"], first.evidence))
    assert evidence.num_rows == 200
    assert evaluate(settings).state == "done"

    # And the page made of it, with the images: everything inside, nothing fetched.
    for number in range(200):
        sink = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(sink, "PNG")
        file = tmp_path / f"scores0/i/{number:04d}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sink.getvalue())
    page = (
        report(
            ReportSettings(
                evaluations=given["output"], runs=given["output"], output=str(tmp_path / "page")
            )
        )
        .store.get(REPORT_FILE)
        .decode()
    )
    for words in (
        "Detectors compared",
        "Over seeds",
        "Mistakes and doubts",
        "Least sure",
        "change sides between two detectors",
        "P by d1",
        "python jobs/evaluate.py",
        "data:image/jpeg;base64",
        "not at hand",
    ):
        assert words in page, words
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in page


@pytest.mark.ray
@pytest.mark.parametrize(
    ("origin", "figure", "words", "page_says"),
    [
        (0, "false_positive_rate", "false-positive rate", "has a false-positive rate of "),
        (1, "accuracy_synthetic", "recall", "has a recall of "),
    ],
)
def test_a_set_of_one_class_leads_with_its_one_figure(
    tmp_path: Path, origin: int, figure: str, words: str, page_says: str
):
    items = listed(tmp_path / "test.txt", [origin] * 80, SCHEME)
    logits = np.where(np.arange(80) < 76, -1.0, 1.0) * (1 - 2 * origin)  # 4 of 80 are wrong
    settings = EvaluateSettings(
        detector=saved_detector(tmp_path / "d"),
        scores=saved_scores(tmp_path / "scores", tiny_detector(), items, logits, SCHEME),
        annotations=str(tmp_path / "test.txt"),
        scheme="demo",
        name="one class",
        resamples=100,
        output=str(tmp_path / "out"),
    )
    run = evaluate(settings)
    stored = json.loads(run.store.get(EVALUATION_FILE))["evaluations"][0]["slices"][0]["figures"]
    first, value = next(iter(stored.items()))
    assert first == figure
    wrong = value["value"] if origin == 0 else 1 - value["value"]
    assert wrong == pytest.approx(0.05)
    # 95 % by Clopper and Pearson for 4 of 80: 1.38 % to 12.31 %.
    ends = sorted(
        [value["low"], value["high"]] if origin == 0 else [1 - value["high"], 1 - value["low"]]
    )
    assert ends == pytest.approx([0.013789, 0.123099], abs=1e-6)
    (one,) = Results.model_validate_json(run.store.get(EVALUATION_FILE)).evaluations
    text = as_text(one).splitlines()
    assert text[1].split("  ")[1:] == ["slice", *text[1].split("  ")[2:]]
    assert words in text[1]
    assert text[2].split()[0] == "all"
    assert "AUC" not in "".join(text)
    table = (tmp_path / "out/tables/folder/d.csv").read_text().splitlines()
    assert table[0].endswith(f",{words}")
    page = report(ReportSettings(evaluations=run.store.root, output=str(tmp_path / "page")))
    html = page.store.get(REPORT_FILE).decode()
    assert page_says in html
    assert "no value" not in html.split("Every figure")[0]


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ((0.0, 0.0), (": no better than chance)", "d0 can&#39;t be told apart from d1.")),
        ((0.0, 2.0), (": no better than chance)", "d0 is worse than d1.")),
        ((-1.0, 2.0), (": below chance, scores run against the labels)", "d0 is worse than d1.")),
        ((1.0, 1.0), ("d0 can&#39;t be told apart from d1.",)),
    ],
)
def test_the_headline_says_what_figures_do_not_show(
    tmp_path: Path, gaps: tuple[float, float], words: tuple[str, ...]
):
    run = evaluate(EvaluateSettings(**scored(tmp_path, gaps)))
    made = report(ReportSettings(evaluations=run.store.root, output=str(tmp_path / "page")))
    summary = re.search(r'<p class="summary">(.*?)</p>', made.store.get(REPORT_FILE).decode())
    assert summary is not None
    for said in words:
        assert said in summary[1]
    assert ("chance" in summary[1]) == ("chance" in words[0])


WRONG = {
    "held_out": ({"held_out": ("Midjourney",)}, "'Midjourney' is no generator or model"),
    "a suite": ({"suite": ("none",)}, "no configs/suites/ of that name"),
    "no lists": ({"annotations": ()}, "give --annotations"),
    "names": ({"names": ("one",)}, "names: 1 for 2 detectors"),
    "twice": ({"names": ("one", "one")}, "one stands twice"),
    "published": ({"published_as": ("mine",)}, "'mine' is unknown"),
    "published for each": ({"published_as": ("corvi",) * 3}, "3 names for 2 detectors"),
    "another task": ({"suite": ("imaginet-model-id",)}, "asks for a detector with one output a c"),
    "lists of a suite": ({"suite": ("imaginet",)}, "give --lists"),
    "no sweeps": ({"suite": ("robustness-jpeg",), "lists": "x"}, "give --sweeps"),
    "no scores": ({"scores": ("nowhere",)}, "nowhere: no scores.parquet there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_named(given: dict, case: str):
    changed, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        evaluate(EvaluateSettings(**given | changed))


def test_an_image_without_a_score_is_named(given: dict):
    with open(given["annotations"], "a") as file:
        file.write("i/none.png,0,0,4,4\n")
    with pytest.raises(UserError, match=r"1 of 201 images have no score; first: i/none\.png"):
        evaluate(EvaluateSettings(**given))


def test_a_report_of_another_layout_is_refused(tmp_path: Path):
    (tmp_path / EVALUATION_FILE).write_text(json.dumps({"slices": []}))
    with pytest.raises(UserError, match="not what evaluate writes"):
        report(ReportSettings(evaluations=str(tmp_path), output=str(tmp_path / "page")))


def test_without_an_evaluation_the_published_tables_stand_alone(tmp_path: Path):
    run = report(ReportSettings(output=str(tmp_path / "page")))
    page = run.store.get(REPORT_FILE).decode()
    for words in ("ImagiNet_Specific_Model", "0.9564", "Inference time", "Nothing was measured"):
        assert words in page


def test_an_output_of_an_older_version_is_measured_again(
    given: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures lack what was added since; scores that lack a column are read all the same."""
    table = Path(given["scores"]) if isinstance(given["scores"], str) else Path(given["scores"][0])
    for file in table.rglob("scores.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["reason", "declared"]), file)
    run = evaluate(EvaluateSettings(**given))
    assert run.state != "done"
    path = Path(run.store.uri(EVALUATION_FILE))
    whole = path.read_bytes()
    stored = json.loads(whole)
    del stored["evaluations"][0]["detector_name"]
    path.write_text(json.dumps(stored))
    capsys.readouterr()
    evaluate(EvaluateSettings(**given))
    said = f"{path}: not what evaluate writes now, evaluate again: evaluations.0.detector_name"
    assert said in capsys.readouterr().err
    assert path.read_bytes() == whole
    assert evaluate(EvaluateSettings(**given)).state == "done"


def test_an_evaluation_of_an_older_version_ends_a_report_in_one_line(
    given: dict, tmp_path: Path
) -> None:
    run = evaluate(EvaluateSettings(**given))
    (file,) = {next(Path(run.store.root).glob("evidence/*/*.parquet"))}
    pq.write_table(pq.ParquetFile(file).read().drop_columns(["score"]), file)
    settings = ReportSettings(evaluations=run.store.root, output=str(tmp_path / "page"))
    with pytest.raises(UserError, match="another version, lacks the column 'score'") as refusal:
        report(settings)
    assert "\n" not in str(refusal.value)
    Path(run.store.uri(EVALUATION_FILE)).write_text("{}")
    with pytest.raises(UserError, match="not what evaluate writes now, evaluate again") as refusal:
        report(settings)
    assert "\n" not in str(refusal.value)


def test_score_tables_that_do_not_fit_together_are_named(given: dict) -> None:
    table = Path(given["scores"]) if isinstance(given["scores"], str) else Path(given["scores"][0])
    file = next(table.rglob("scores.parquet"))
    old = pq.read_table(file)
    at = old.schema.get_field_index("note")
    odd = old.set_column(at, "note", pa.array([1] * old.num_rows))
    pq.write_table(odd, file)
    with pytest.raises(UserError, match=r"do not fit together.*run predict again") as refusal:
        evaluate(EvaluateSettings(**given))
    assert "\n" not in str(refusal.value)
