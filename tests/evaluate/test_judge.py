import numpy as np
import pyarrow as pa
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from rayapp.config.errors import UserError
from rayapp.dataset.labels import AnnotationList, Item
from rayapp.dataset.suites import ProtocolName, TestItems, load_suite
from rayapp.evaluate.detectors import Measured, short_names
from rayapp.evaluate.judge import Judged, class_probabilities, judge, slices_of
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector_spec import Labels
from tests.detectors import tiny_detector

SUITE = load_suite("imaginet-model")
SCHEME = SUITE.labels()
DETECTOR = tiny_detector()


def measured(calibration: Calibration | None = None, on: pa.Table | None = None) -> Measured:
    spec = DETECTOR.spec.model_copy(update={"calibration": calibration})
    return Measured("d", "d", spec, DETECTOR.hash(), on)


def own(n: int = 40) -> Calibration:
    return Calibration(
        method="platt",
        parameters={"slope": 2.0, "bias": -1.0},
        threshold=0.4,
        n=n,
        items_hash="",
        detector_hash=DETECTOR.hash(),
        preprocessing_hash=DETECTOR.spec.preprocessing.hash,
    )


@pytest.fixture
def items() -> TestItems:
    """80 rows of 76 photographs; the first 8 rows are those of the calibration."""
    rows = []
    for k in range(80):
        model = k % 8
        group = 0 if model < 3 else 1 if model < 6 else model - 4
        labels = (0, k % 4, 4, 8) if k % 2 else (1, k % 4, group, model)
        rows.append(Item(f"t/{k:02d}.png", f"t/{k:02d}.png", labels))
    sources = [f"s/{k if k != 41 else 1:02d}" for k in range(80)]  # row 41 repeats photograph 1
    return TestItems(SCHEME, rows, ["test_gan.txt"] * 80, sources)


@pytest.fixture
def scores(items: TestItems) -> pa.Table:
    random = np.random.default_rng(0)
    logits = [random.normal(item.labels[0] * 1.5, 1) for item in items.items]
    paths = [item.path for item in items.items]
    return pa.table(
        {
            "id": paths,
            "path": paths,
            "sha256": [f"{k}" for k in range(80)],
            "logit": pa.array(logits, pa.float32()),
            "error": [""] * 80,
            "status": ["ok"] * 80,
        }
    )


@pytest.fixture
def published(items: TestItems) -> AnnotationList:
    return AnnotationList("calibration.txt", SCHEME, items.items[:8])


def judged(
    items: TestItems,
    scores: pa.Table,
    published: AnnotationList | None,
    protocol: ProtocolName,
    detector: Measured | None = None,
) -> Judged:
    return judge(detector or measured(), SUITE, items, published, scores, protocol, 42)


def test_legacy_is_the_original_logistic_regression(items, scores, published):
    found = judged(items, scores, published, "legacy", measured(own()))
    logits = scores["logit"].to_numpy().astype(float)
    labels = np.array([item.labels[0] for item in items.items])
    fit = LogisticRegression(C=1e10, solver="saga", max_iter=1000, random_state=42)
    fit.fit(logits[:8, None], labels[:8])
    np.testing.assert_allclose(
        found.test.probabilities_N, special.expit(fit.decision_function(logits[:, None]))
    )
    assert len(found.items.items) == 80
    assert "8 of them in the test set" in found.calibrated


def test_clean_without_a_calibration_of_its_own_leaves_the_published_images_out(
    items, scores, published
):
    found = judged(items, scores, published, "clean")
    left = {item.path for item in found.items.items}
    assert not left & {item.path for item in published.items}
    assert "t/41.png" not in left  # made from the photograph of a calibration image
    assert len(left) == 71
    assert found.calibration is not None
    assert found.calibration.n == 8
    assert any("9 calibration images and their repeats" in note for note in found.notes)


def test_clean_leaves_out_the_same_bytes_under_another_name(items, scores, published):
    twin = scores["sha256"].to_pylist()
    twin[70] = twin[3]
    scores = scores.set_column(2, "sha256", pa.array(twin))
    left = {item.path for item in judged(items, scores, published, "clean").items.items}
    assert "t/70.png" not in left


def test_clean_takes_the_detectors_own_calibration(items, scores, published):
    other = pa.table({"path": ["c/1.png"], "sha256": ["zz"], "perceptual_hash": [None]})
    found = judged(items, scores, published, "clean", measured(own(), other))
    logits = scores["logit"].to_numpy().astype(float)
    np.testing.assert_allclose(found.test.probabilities_N, special.expit(2 * logits - 1))
    assert found.test.threshold == 0.4
    assert len(found.items.items) == 80
    unknown = judged(items, scores, published, "clean", measured(own()))
    assert any("isn't recorded" in note for note in unknown.notes)


@pytest.mark.parametrize(
    "leak", [{"path": "t/05.png", "sha256": "5"}, {"path": "c/9.png", "sha256": "5"}]
)
def test_clean_refuses_a_test_image_that_was_calibrated_on(items, scores, published, leak):
    on = pa.table({"path": [leak["path"]], "sha256": [leak["sha256"]], "perceptual_hash": [None]})
    detector = measured(own(), on)
    with pytest.raises(UserError, match="1 of 1 calibration images are in suite "):
        judged(items, scores, published, "clean", detector)
    assert judged(items, scores, None, "legacy", detector).calibrated.startswith(
        "the detector's own"
    )


def test_without_any_calibration_the_logit_speaks(items, scores):
    found = judged(items, scores, None, "clean")
    assert found.calibration is None
    assert found.calibrated.startswith("none")


def test_repeats_of_a_photograph_are_resampled_together(items, scores, published):
    found = judged(items, scores, published, "legacy")
    assert found.test.num_groups == 79


def test_an_image_without_a_score_is_named(items, scores, published):
    with pytest.raises(UserError, match=r"1 of 80 images have no score; first: t/17\.png"):
        judged(items, scores.filter([k != 17 for k in range(80)]), published, "legacy")


def test_legacy_draws_as_many_reals_by_the_seed(items, scores, published):
    found = judged(items, scores, published, "legacy")
    real = found.test.codes["origin"] == 0
    parts = {name: mask for _, name, mask in slices_of(SUITE, found, "legacy", 42)}
    assert list(parts) == ["all", *SUITE.slices]
    assert (parts["ProGAN"] & real).sum() == (parts["ProGAN"] & ~real).sum() == 10
    again = {name: mask for _, name, mask in slices_of(SUITE, found, "legacy", 42)}
    other = {name: mask for _, name, mask in slices_of(SUITE, found, "legacy", 7)}
    np.testing.assert_array_equal(parts["ProGAN"], again["ProGAN"])
    assert (parts["ProGAN"] != other["ProGAN"]).any()
    assert (parts["ProGAN"] & real != parts["SDXL v1.0"] & real).any()
    clean = {name: mask for _, name, mask in slices_of(SUITE, found, "clean", 42)}
    assert (clean["ProGAN"] & real).sum() == real.sum()


def test_classes_are_matched_by_name(items):
    suite = load_suite("imaginet-model-id")
    spec = DETECTOR.spec.model_copy(
        update={"labels": Labels(column="generator", classes=("SD", "GAN"))}
    )
    detector = Measured("d", "d", spec, "h", None)
    chosen = items.only([i.labels[0] == 1 and i.labels[2] < 2 for i in items.items], "others")
    paths = [item.path for item in chosen.items]
    logits = [[0.0, 5.0] if item.labels[2] == 0 else [5.0, 0.0] for item in chosen.items]
    table = pa.table(
        {
            "path": paths,
            "logit": pa.nulls(len(paths), pa.float32()),
            "logits": pa.array(logits, pa.list_(pa.float32())),
            "error": [""] * len(paths),
        }
    )
    truth, p, classes, _ = class_probabilities(detector, suite, chosen, table)
    assert classes == ("SD", "GAN")
    assert (p.argmax(axis=1) == truth).all()
    odd = spec.model_copy(update={"labels": Labels(column="generator", classes=("SD", "Imagen"))})
    with pytest.raises(UserError, match="its classes SD, Imagen are not those of imaginet's"):
        class_probabilities(Measured("d", "d", odd, "h", None), suite, chosen, table)


def test_short_names_say_more_than_detector():
    assert short_names(["/a/x/detector", "/a/y/detector"]) == ["x/detector", "y/detector"]
    assert short_names(["/a/one"]) == ["one"]
