import numpy as np
import pytest
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from rayapp.config.errors import UserError
from rayapp.metrics.binary import evaluate
from rayapp.metrics.probability import log_losses
from rayapp.metrics.scored import Scored
from rayapp.models.calibration.calibrators import Calibration, fit

METHODS = ("platt", "temperature", "bias", "beta", "isotonic")


def shifted(rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True log-odds, labels drawn from them, and a detector's logits: 1.33 x + 1.5 of the truth."""
    truth = rng.normal(rng.choice([-3.0, 3.0], num), 2.0)
    labels = (rng.random(num) < special.expit(truth)).astype(int)
    return truth, labels, 1.33 * truth + 1.5


class Identity(ClassifierMixin, BaseEstimator):
    """A fitted scikit-learn classifier whose decision value is its only feature."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Identity":
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return (X[:, 0] > 0).astype(int)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def scikit_learn(method: str, logits: np.ndarray, labels: np.ndarray) -> CalibratedClassifierCV:
    frozen = FrozenEstimator(Identity().fit(logits[:, None], labels))
    return CalibratedClassifierCV(frozen, method=method).fit(logits[:, None], labels)


def test_platt_reaches_the_oracle_on_2000_items() -> None:
    """The bar: NLL within 0.002 of the oracle and debiased error at most 0.01, 20 seeded fits."""
    rng = np.random.default_rng(0)
    truth, labels, logits = shifted(rng, 20_000)
    oracle = log_losses(labels, special.expit(truth)).mean()
    excess, errors = [], []
    for _ in range(20):
        _, fit_labels, fit_logits = shifted(rng, 2000)
        p = fit("platt", fit_logits, fit_labels).apply(logits)
        excess.append(log_losses(labels, p).mean() - oracle)
        errors.append(evaluate(Scored.of(labels, logits, p))["calibration_error"].value)
    assert np.mean(excess) <= 0.002
    assert np.mean(errors) <= 0.01
    uncalibrated = special.expit(logits)
    assert log_losses(labels, uncalibrated).mean() - oracle > 0.02
    wrong = evaluate(Scored.of(labels, logits, uncalibrated))["calibration_error"].value
    assert wrong is not None
    assert wrong > 0.05


@pytest.mark.parametrize("method", ["platt", "temperature", "bias", "beta", "auto"])
def test_separated_scores_stay_finite(method: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    logits = rng.normal(np.where(labels == 1, 8, -8), 0.5)
    calibrator = fit(method, logits, labels)
    assert np.isfinite(list(calibrator.parameters.values())).all()
    # A bias cannot flatten: what it gives is the detector's own steepness.
    if method != "bias":
        assert calibrator.apply(logits).max() < 0.995
    assert "small calibration set (40 real, 40 synthetic items)" in calibrator.warning


def test_temperature_without_smoothing_equals_scikit_learn() -> None:
    _, labels, logits = shifted(np.random.default_rng(1), 500)
    temperature = fit("temperature", logits, labels, smooth=False).parameters["temperature"]
    reference = scikit_learn("temperature", logits, labels).calibrated_classifiers_[0]
    assert temperature == pytest.approx(1 / (2 * reference.calibrators[0].beta_), rel=1e-6)


@pytest.mark.parametrize("num", [60, 500])
def test_smoothed_platt_equals_scikit_learn(num: int) -> None:
    _, labels, logits = shifted(np.random.default_rng(2), num)
    reference = scikit_learn("sigmoid", logits, labels).predict_proba(logits[:, None])[:, 1]
    ours = fit("platt", logits, labels).apply(logits)
    np.testing.assert_allclose(ours, reference, atol=2e-4)


def test_platt_is_at_the_optimum() -> None:
    """The gradient of the smoothed loss vanishes, where scikit-learn stops at its tolerance."""
    _, labels, logits = shifted(np.random.default_rng(2), 500)
    high, low = (labels.sum() + 1) / (labels.sum() + 2), 1 / ((1 - labels).sum() + 2)
    residual = fit("platt", logits, labels).apply(logits) - np.where(labels == 1, high, low)
    assert abs(residual.sum()) < 1e-9
    assert abs(residual @ logits) < 1e-8


def test_isotonic_equals_scikit_learn_with_ties() -> None:
    _, labels, logits = shifted(np.random.default_rng(3), 700)
    logits = np.round(logits, 1)
    grid = np.linspace(-15, 15, 999)
    reference = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(logits, labels)
    ours = fit("isotonic", logits, labels).apply(grid)
    np.testing.assert_allclose(ours, reference.predict(grid), atol=1e-12)


def test_bias_recovers_a_shift_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    truth, labels, _ = shifted(rng, 20_000)
    assert fit("bias", truth + 2, labels).parameters["bias"] == pytest.approx(-2, abs=0.1)


def test_beta_contains_the_identity() -> None:
    truth, labels, _ = shifted(np.random.default_rng(5), 20_000)
    parameters = fit("beta", truth, labels).parameters
    assert parameters["a"] == pytest.approx(1, abs=0.1)
    assert parameters["b"] == pytest.approx(1, abs=0.1)
    assert parameters["c"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_rising_in_the_logit(method: str) -> None:
    _, labels, logits = shifted(np.random.default_rng(6), 300)
    p = fit(method, logits, labels).apply(np.linspace(-800, 800, 4001))
    assert (np.diff(p) >= 0).all()
    assert p.min() >= 0
    assert p.max() <= 1


def degenerate(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that have no ordinary fit."""
    rng = np.random.default_rng(11)
    labels = np.arange(80) % 2
    overlapping = rng.normal(np.where(labels == 1, 1.5, -1.5), 1.0)
    separate = rng.normal(np.where(labels == 1, 6, -6), 0.5)
    return {
        "inverted": (-overlapping, labels),
        "inverted, separated": (-separate, labels),
        "constant": (np.full(80, 3.0), labels),
        "constant at 0": (np.zeros(80), labels),
        "separated": (separate, labels),
        "separated on one side of 0": (separate + 9, labels),
        "one class": (overlapping, np.zeros(80)),
        "n = 5": (np.array([-2.0, -1.0, 0.5, 1.0, 3.0]), np.array([0, 0, 0, 1, 1])),
        "chance": (rng.normal(size=80), labels),
    }[kind]


REFUSED = {
    "inverted": "run against the labels",
    "inverted, separated": "run against the labels",
    "constant": "all 80 calibration logits are equal",
    "constant at 0": "all 80 calibration logits are equal",
    "one class": "80 real, 0 synthetic",
}
WARNED = {
    "inverted": "run against the labels",
    "inverted, separated": "run against the labels",
    "n = 5": "small calibration set (3 real, 2 synthetic items)",
    "chance": "on 80 items may be chance",
}


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize(
    "kind", [*REFUSED, "separated", "separated on one side of 0", "n = 5", "chance"]
)
def test_a_degenerate_set_gets_a_right_answer_or_one_clear_line(method: str, kind: str) -> None:
    logits, labels = degenerate(kind)
    turned = kind.startswith("inverted") and method in {"platt", "auto"}
    if kind in REFUSED and not turned:
        with pytest.raises(UserError, match=REFUSED[kind]) as refused:
            fit(method, logits, labels)
        assert "\n" not in str(refused.value)
        return
    fitted = fit(method, logits, labels)
    p = fitted.apply(logits)
    assert np.isfinite(p).all()
    assert WARNED.get(kind, "") in fitted.warning
    assert "\n" not in fitted.warning
    if kind != "chance":
        assert roc_auc_score(labels, p) > 0.95
    if (method, kind) == ("temperature", "separated on one side of 0"):
        assert "a temperature cannot shift them" in fitted.warning
    else:
        assert "cannot shift" not in fitted.warning
        assert p.mean() == pytest.approx(labels.mean(), abs=0.14 if kind == "n = 5" else 0.01)
    if method == "isotonic" and kind.startswith("separated"):
        assert "isotonic gives 0 or 1 alone" in fitted.warning


def test_a_given_temperature_is_taken_unless_the_scores_are_inverted() -> None:
    _, labels, logits = shifted(np.random.default_rng(6), 300)
    assert fit("temperature", logits, labels, temperature=4).parameters == {"temperature": 4}
    with pytest.raises(UserError, match="run against the labels"):
        fit("temperature", -logits, labels, temperature=4)


def test_auto_takes_what_the_data_need_and_does_not_depend_on_order() -> None:
    rng = np.random.default_rng(7)
    truth, labels, logits = shifted(rng, 4000)
    assert fit("auto", truth + 3, labels).method == "bias"
    assert fit("auto", 3 * truth, labels).method == "temperature"
    assert fit("auto", logits, labels).method == "platt"
    bent = np.where(truth > 0, 4 * truth, 0.5 * truth)
    assert fit("auto", bent, labels).method == "beta"
    stairs = np.interp(truth, [-4, -1, 1, 4], [-8, 3, 3.5, 9])
    assert fit("auto", stairs, labels).method == "isotonic"
    assert fit("auto", stairs[:999], labels[:999]).method != "isotonic"
    few = np.append(np.flatnonzero(labels == 0)[:50], np.flatnonzero(labels == 1)[:4])
    assert fit("auto", logits[few], labels[few]).method == "platt"
    order = rng.permutation(len(labels))
    again = fit("auto", bent[order], labels[order]).parameters
    assert again == pytest.approx(fit("auto", bent, labels).parameters)


def test_slope_interval_covers_the_true_slope() -> None:
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(100):
        _, labels, logits = shifted(rng, 1000)
        interval = fit("platt", logits, labels).slope_interval
        assert interval is not None
        hits += interval[0] <= 1 / 1.33 <= interval[1]
    assert 0.88 <= hits / 100 <= 1


def test_large_sets_are_not_warned_of() -> None:
    _, labels, logits = shifted(np.random.default_rng(9), 2000)
    assert fit("platt", logits, labels).warning == ""


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_logits_does_not_matter(scale: float) -> None:
    _, labels, logits = shifted(np.random.default_rng(10), 400)
    expected = fit("platt", logits, labels).apply(logits)
    scaled = fit("platt", scale * logits, labels).apply(scale * logits)
    np.testing.assert_allclose(scaled, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "logits", "labels", "smooth", "message"),
    [
        ("plat", [0, 1], [0, 1], True, "'plat' is unknown: take platt, temperature"),
        ("platt", [0, 1], [0], True, "2 logits but 1 labels"),
        ("platt", [0, np.nan], [0, 1], True, "1 of 2 calibration logits are not finite"),
        ("platt", [0, 1], [0, 2], True, "must be 0"),
        ("platt", [0, 1], [1, 1], True, "0 real, 2 synthetic"),
        ("platt", [3, 3], [0, 1], True, "all 2 calibration logits are equal"),
        ("platt", [-1, 1], [0, 1], False, "separate the classes"),
        ("temperature", [-1, 1], [0, 1], False, "separate the classes"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    method: str, logits: list, labels: list, smooth: bool, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        fit(method, logits, labels, smooth=smooth)
    assert "\n" not in str(refused.value)


def record(**changes: object) -> Calibration:
    fields = {
        "method": "platt",
        "parameters": {"slope": 0.75, "bias": -1.1},
        "n": 80,
        "items_hash": "a",
        "detector_hash": "b",
        "preprocessing_hash": "c",
    }
    return Calibration.model_validate(fields | changes)


def test_record_survives_json_and_its_hash_covers_every_field() -> None:
    isotonic = {"logits": [0.1, 1 / 3], "probabilities": [0.0, 1.0]}
    first = record(method="isotonic", parameters=isotonic, band=(0.2, 0.8))
    again = Calibration.model_validate_json(first.model_dump_json())
    assert again == first
    assert again.hash == first.hash
    changes = (
        {"method": "temperature"},
        {"parameters": {"slope": 0.75, "bias": -1.2}},
        {"threshold": 0.6},
        {"band": (0.4, 0.6)},
        {"n": 81},
        {"items_hash": "x"},
        {"detector_hash": "x"},
        {"preprocessing_hash": "x"},
        {"share_synthetic": 0.5},
        {"share_synthetic": 0.5, "prevalence": 0.01},
        {
            "operating_point": {
                "rates": [{"slice": "all", "num_real": 9, "num_flagged": 0}],
                "num_synthetic": 9,
                "num_found": 9,
            }
        },
    )
    assert len({record(**change).hash for change in changes} | {record().hash}) == 12
    # A record of an older version, without the last three: its hash stays.
    assert record().hash == "a6c01dd4de7356b746162dce70cae270a2677b7735941ddb198852e837a8ff6a"


def test_decisions_with_and_without_a_band() -> None:
    assert record(threshold=0.6).decide([0.59, 0.6, 1]).tolist() == [0, 1, 1]
    assert record(band=(0.3, 0.7)).decide([0.29, 0.3, 0.69, 0.7]).tolist() == [0, -1, -1, 1]


def test_a_record_that_breaks_its_own_promise_is_refused() -> None:
    point = {
        "rates": [{"slice": "all", "num_real": 99, "num_flagged": 0}],
        "num_synthetic": 9,
        "num_found": 9,
        "fpr": 0.05,
    }
    record(threshold=0.9, band=(0.1, 0.95), operating_point=point)
    with pytest.raises(ValueError, match="ends below the threshold"):
        record(threshold=0.9, band=(0.1, 0.8), operating_point=point)
    with pytest.raises(ValueError, match="needs the share that it is shifted from"):
        record(prevalence=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_at_another_prevalence_the_probabilities_hold(method: str) -> None:
    """Fitted where half of the images are synthetic, used where a twentieth is."""
    rng = np.random.default_rng(12)

    def drawn(num_real: int, num_synthetic: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([0, 1], [num_real, num_synthetic])
        return 2 * rng.normal(np.where(labels == 1, 1.0, -1.0), 1.0), labels  # true log-odds

    logits, labels = drawn(4000, 4000)
    fitted = fit(method, logits, labels)
    there = record(
        method=method, parameters=fitted.parameters, share_synthetic=0.5, prevalence=0.05
    )
    logits, labels = drawn(38_000, 2000)
    assert there.apply(logits).mean() == pytest.approx(0.05, abs=0.006)
    assert fitted.apply(logits).mean() > 0.15
    at_once = log_losses(labels, there.apply(logits)).mean()
    assert at_once < log_losses(labels, fitted.apply(logits)).mean()
