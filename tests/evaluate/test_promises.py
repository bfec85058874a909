"""What a calibration promises, on test images that keep it and on others that do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.evaluate.bench import Bench
from rayapp.evaluate.csv_tables import as_text
from rayapp.evaluate.detectors import load_all
from rayapp.evaluate.settings import EvaluateSettings, load_suites
from rayapp.metrics.evaluation import Evaluation
from rayapp.pages.blocks import Notice
from rayapp.report import tables
from rayapp.report.evidence import Evidence
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")
ORIGINS = np.tile([0, 0, 1, 1], 200)
CONTENTS = np.tile([0, 1], 400)


def scored(folder: Path, name: str, logits: np.ndarray, groups: list[str] | None = None) -> str:
    """800 listed images and their scores; the list's path."""
    items = []
    for at, (origin, content) in enumerate(zip(ORIGINS.tolist(), CONTENTS.tolist(), strict=True)):
        code = at % 4 if origin else 4
        path = f"{name}/{at:04d}.png"
        items.append(Item(path, path, (origin, content, code, code)))
    write_list(open_store(folder), f"{name}.txt", items, SCHEME)
    saved_scores(folder / "scores" / name, tiny_detector(), items, logits, SCHEME, groups)
    return str(folder / f"{name}.txt")


Measure = Callable[..., Evaluation]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Calibrates on 800 images, then measures on 800 others of the given logits, without Ray."""

    def of(logits: np.ndarray, groups: list[str] | None = None, **asked: object) -> Evaluation:
        detector = saved_detector(tmp_path / "plain")
        if asked:
            drawn = np.random.default_rng(0).normal(4 * ORIGINS - 2, 1)
            calibrate(
                CalibrateSettings(
                    detector=detector,
                    scores=str(tmp_path / "scores"),
                    annotations=scored(tmp_path, "calibration", drawn),
                    scheme="demo",
                    output=str(tmp_path / "detector"),
                    **asked,  # type: ignore[arg-type]
                )
            )
            detector = str(tmp_path / "detector")
        settings = EvaluateSettings(
            detector=detector,
            scores=str(tmp_path / "scores"),
            annotations=scored(tmp_path, "test", logits, groups),
            scheme="demo",
            resamples=100,
            output="-",
        )
        (pairing,) = Bench(settings, load_all(settings.detector, ())).pairings(
            load_suites(settings)
        )
        tasks = pairing.measurements.tasks.items()
        found = {name: task.call(*task.shared, *task.arguments) for name, task in tasks}
        return pairing.measurements.evaluation(found, {})

    return of


def alike(seed: int = 1) -> np.ndarray:
    """Logits as those of the calibration."""
    return np.random.default_rng(seed).normal(4 * ORIGINS - 2, 1)


def page_table(one: Evaluation) -> tables.Table:
    (table,) = [b for b in tables.operating_points([Evidence(one, None)]) if b.kind == "table"]
    assert isinstance(table, tables.Table)
    return table


def test_asked_bound_and_observed_stand_side_by_side_by_slice(measure: Measure) -> None:
    one = measure(alike(), fpr=0.02, fpr_by="content", prevalence=0.1)
    assert one.operating_point is not None
    for code, found in enumerate(one.false_positives):
        assert found.slice == SCHEME.names("content")[code]
        assert found.num_real == 200
        assert found.low <= found.observed <= found.high
    text = as_text(one)
    assert "false positives: asked at most 2 % in every content, with 95 % confidence" in text
    for rate, found in zip(one.operating_point.rates, one.false_positives, strict=True):
        assert rate.bound is not None
        assert rate.bound <= 0.02
        assert f"    {rate.slice}: bound {100 * rate.bound:.3g} %" in text
        assert f"here {100 * found.observed:.3g} % [" in text
    assert "MORE THAN ASKED" not in text
    assert [row[-1] for row in page_table(one).rows] == ["yes", "yes"]
    assert [row[1] for row in page_table(one).rows] == ["content: colour", "content: grey"]


def test_false_positives_are_counted_at_the_threshold(measure: Measure) -> None:
    one = measure(alike(), fpr=0.05, fpr_by="content")
    accuracy = one.whole.figures["accuracy_real"].value
    assert accuracy is not None
    flagged = sum(found.num_flagged for found in one.false_positives)
    assert flagged == pytest.approx(400 * (1 - accuracy))


def test_images_unlike_those_of_the_calibration_are_found_out(measure: Measure) -> None:
    one = measure(alike() + 1.5 * (CONTENTS == 1), fpr=0.02, fpr_by="content")
    colour, grey = one.false_positives
    assert colour.low < 0.02 < grey.low
    assert as_text(one).count("MORE THAN ASKED") == 1
    assert [row[-1] for row in page_table(one).rows] == ["yes", "no"]


def test_crops_of_a_photograph_count_once_in_the_test_too(measure: Measure) -> None:
    one = measure(alike(), [f"photo {at // 8}" for at in range(800)], fpr=0.02)
    (found,) = one.false_positives
    assert (found.slice, found.num_real) == ("all", 100)


def test_a_column_that_the_test_images_lack_is_a_note(measure: Measure, tmp_path: Path) -> None:
    one = measure(alike(), fpr=0.02, fpr_by="content")
    assert one.false_positives
    detector = tmp_path / "detector" / "detector.json"
    text = detector.read_text()
    assert text.count('"by": "content"') == 1
    detector.write_text(text.replace('"by": "content"', '"by": "camera"'))
    settings = EvaluateSettings(
        detector=str(tmp_path / "detector"),
        scores=str(tmp_path / "scores"),
        annotations=str(tmp_path / "test.txt"),
        scheme="demo",
        output="-",
    )
    (pairing,) = Bench(settings, load_all(settings.detector, ())).pairings(load_suites(settings))
    notes = pairing.measurements.fields["notes"]
    assert any(n.startswith("false positives by camera are not known here: no col") for n in notes)


def test_the_prior_is_said_with_the_precision_that_follows(measure: Measure) -> None:
    one = measure(alike(), fpr=0.02, prevalence=0.01)
    assert one.holds_at == 0.01
    real, synthetic = (one.whole.figures[f].value for f in ("accuracy_real", "accuracy_synthetic"))
    assert real is not None
    assert synthetic is not None
    expected = 0.01 * synthetic / (0.01 * synthetic + 0.99 * (1 - real))
    assert one.precision == pytest.approx(expected)
    assert "hold where 1 % of the images are synthetic; there, at the rates" in as_text(one)
    assert any("of which 50 % are synthetic, not of 1 %" in note for note in one.notes)
    plain = measure(alike(), method="platt", overwrite=True)
    assert plain.holds_at == 0.5
    assert plain.false_positives == ()
    assert "hold where 50 % of the images are synthetic" in as_text(plain)


@pytest.mark.parametrize("spread", [1.0, 0.01])  # all resamples of separated scores agree
def test_inverted_scores_are_named(measure: Measure, spread: float) -> None:
    logits = np.random.default_rng(3).normal(-4 * ORIGINS, spread)
    one = measure(logits)
    assert one.inverted[0] == "all"
    assert "WARNING: the scores run against the labels (ROC AUC" in as_text(one)
    notices = [b for b in tables.remarks([Evidence(one, None)]) if b.kind == "notice"]
    assert len(notices) == 1


def test_what_is_no_test_is_said_before_any_figure(measure: Measure) -> None:
    said = "NOT A TEST: 800 of 800 images are in the lists that the detector was trained on"
    plain = measure(alike())
    one = plain.model_copy(update={"notes": (said, *plain.notes)})
    assert as_text(one).splitlines()[1].strip() == said
    assert as_text(one).count("NOT A TEST") == 1
    *before, after = tables.remarks([Evidence(one, None)])
    assert [b.text for b in before if isinstance(b, Notice)] == [f"{one.detector_name}: {said}."]
    assert "NOT A TEST" not in str(after)


def test_one_inverted_slice_is_named_and_chance_is_not(measure: Measure) -> None:
    grey = CONTENTS == 1
    logits = np.random.default_rng(4).normal(np.where(grey, -3, 4) * ORIGINS, 1)
    assert measure(logits).inverted == ("grey", "pixel shuffle")  # whose images are all grey
    assert "run against the labels on grey, pixel shuffle (" in as_text(measure(logits))
    assert measure(np.random.default_rng(5).normal(size=800)).inverted == ()


def test_a_calibration_that_turns_the_scores_round_says_so(
    measure: Measure, tmp_path: Path
) -> None:
    drawn = np.random.default_rng(6).normal(2 - 4 * ORIGINS, 1)
    detector, listed = saved_detector(tmp_path / "plain"), scored(tmp_path, "turned", drawn)
    calibrate(
        CalibrateSettings(
            detector=detector,
            scores=str(tmp_path / "scores"),
            annotations=listed,
            scheme="demo",
            output=str(tmp_path / "turned"),
        )
    )
    settings = EvaluateSettings(
        detector=str(tmp_path / "turned"),
        scores=str(tmp_path / "scores"),
        scheme="demo",
        annotations=scored(tmp_path, "test", -alike()),
        output="-",
    )
    (pairing,) = Bench(settings, load_all(settings.detector, ())).pairings(load_suites(settings))
    assert "it turns the scores round (slope -" in pairing.measurements.fields["calibration"]
    test = pairing.measurements.judged.test  # what it answers is ranked, not what it turns
    probabilities, logits = test.probabilities_N, test.logits_N
    assert (np.argsort(logits) == np.argsort(probabilities, kind="stable")).all()


def test_auc_stands_beside_the_accuracy_of_every_pair_of_sources(measure: Measure) -> None:
    one = measure(alike())
    pair = next(p for p in one.sources if p.real == "colour")
    chosen = ((ORIGINS == 0) & (CONTENTS == 0)), (ORIGINS == 1) & (np.arange(800) % 4 == 2)
    logits = pq.read_table(next(Path(one.detector).parent.rglob("test/scores.parquet")))["logit"]
    right = (logits.to_numpy() >= 0) == (ORIGINS == 1)
    assert pair.synthetic == "bilinear + convolution"
    expected = np.mean([right[mask].mean() for mask in chosen])
    assert pair.balanced_accuracy.value == pytest.approx(expected)
