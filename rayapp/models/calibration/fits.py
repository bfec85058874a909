"""The fits behind the calibrators: parameters from logits, and probabilities from parameters.

Fitted in float64 by Newton's method on a handful of parameters. Shape suffixes: N items, D
features of the fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from rayapp.config.errors import UserError

if TYPE_CHECKING:
    from rayapp.models.detector_spec import Method

Floats = NDArray[np.float64]
Parameters = dict[str, float | list[float]]


def probabilities(method: Method, parameters: Parameters, logits_N: ArrayLike) -> Floats:
    """Applies a fitted map; rising in the logit except for Platt with a negative slope.

    platt: σ(slope z + bias); temperature: σ(z / temperature); bias: σ(z + bias);
    beta: σ(a ln s - b ln(1 - s) + c) with s = σ(z) (Kull, Silva Filho and Flach, AISTATS 2017);
    isotonic: straight between the stored points, flat outside them.
    """
    z = np.asarray(logits_N, dtype=np.float64)
    if method == "isotonic":
        return np.asarray(np.interp(z, parameters["logits"], parameters["probabilities"]))
    value = {name: x for name, x in parameters.items() if not isinstance(x, list)}
    if method == "platt":
        return np.asarray(special.expit(value["slope"] * z + value["bias"]))
    if method == "temperature":
        return np.asarray(special.expit(z / value["temperature"]))
    if method == "bias":
        return np.asarray(special.expit(z + value["bias"]))
    return np.asarray(special.expit(_beta_features(z) @ [value["a"], value["b"], value["c"]]))


def fit_parameters(
    method: Method, z: Floats, labels: Floats, smooth: bool, weights_N: Floats | None = None
) -> Parameters:
    """Parameters of one method; `smooth` fits to Platt's targets instead of the labels.

    `weights_N` says how much each item counts, on average 1; all alike if none.

    Raises:
        UserError: there is no finite fit, or no rising one for temperature.
    """
    if method == "isotonic":
        return _fit_isotonic(z, labels, weights_N)
    if not smooth:
        _refuse_separated(method, z, labels)
    targets = smoothed_targets(labels, weights_N) if smooth else labels
    zeros = np.zeros_like(z)
    if method == "bias":
        return {"bias": float(newton(np.ones((len(z), 1)), targets, z, weights_N)[0])}
    if method == "platt":
        slope, bias = newton(np.column_stack([z, np.ones_like(z)]), targets, zeros, weights_N)
        return {"slope": float(slope), "bias": float(bias)}
    if method == "temperature":
        inverse = float(newton(z[:, None], targets, zeros, weights_N)[0]) if z.any() else 0.0
        if inverse <= 0:
            raise UserError(
                "temperature cannot be fitted: it keeps the sign of the logit, and the classes do "
                "not lie on either side of 0; take platt"
            )
        return {"temperature": 1 / inverse}
    return _fit_beta(z, targets, weights_N)


def smoothed_targets(labels_N: Floats, weights_N: Floats | None = None) -> Floats:
    """Platt's targets: (N1 + 1)/(N1 + 2) for synthetics and 1/(N0 + 2) for reals."""
    num_synthetic = (labels_N if weights_N is None else labels_N * weights_N).sum()
    num_real = len(labels_N) - num_synthetic
    high, low = (num_synthetic + 1) / (num_synthetic + 2), 1 / (num_real + 2)
    return np.asarray(np.where(labels_N == 1, high, low), dtype=np.float64)


def _fit_isotonic(z: Floats, labels: Floats, weights_N: Floats | None = None) -> Parameters:
    """Pools adjacent violators over distinct logits; keeps the ends of each flat stretch."""
    logits, inverse, counts = np.unique(z, return_inverse=True, return_counts=True)
    if weights_N is not None:
        counts, labels = np.bincount(inverse, weights=weights_N), labels * weights_N
    shares = np.bincount(inverse, weights=labels) / counts
    from scipy import optimize  # takes half a second to import

    fitted = np.clip(optimize.isotonic_regression(shares, weights=counts).x, 0, 1)
    kept = np.ones(len(fitted), dtype=bool)
    kept[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return {"logits": logits[kept].tolist(), "probabilities": fitted[kept].tolist()}


def _beta_features(z: Floats) -> Floats:
    """Columns ln σ(z), -ln(1 - σ(z)) and 1, without rounding to 0 at either end."""
    return np.asarray(
        np.stack([special.log_expit(z), -special.log_expit(-z), np.ones_like(z)], axis=-1)
    )


def _fit_beta(z: Floats, targets: Floats, weights_N: Floats | None) -> Parameters:
    """A negative a or b would make the map fall: it is set to 0 and the rest fitted again."""
    features = _beta_features(z)
    free = [0, 1, 2]
    while True:
        weights = np.zeros(3)
        weights[free] = newton(features[:, free], targets, np.zeros_like(z), weights_N)
        lowest = int(np.argmin(weights[:2]))
        if weights[lowest] >= 0:
            return {name: float(w) for name, w in zip("abc", weights, strict=True)}
        free.remove(lowest)


def newton(
    design_ND: Floats, targets_N: Floats, offset_N: Floats, counts_N: Floats | None = None
) -> Floats:
    """Weights of the logistic regression of soft targets with a fixed offset, halving long steps.

    `counts_N` says how much each item counts; all alike if none.

    Raises:
        UserError: it does not settle within 100 steps.
    """
    scale = np.abs(design_ND).max(axis=0)
    scale[scale == 0] = 1
    design = design_ND / scale
    weights = np.zeros(design.shape[1])
    loss = _cross_entropy(offset_N, targets_N, counts_N)
    for _ in range(100):
        p = special.expit(design @ weights + offset_N)
        gaps_N, curves_N = p - targets_N, p * (1 - p)
        if counts_N is not None:
            gaps_N, curves_N = gaps_N * counts_N, curves_N * counts_N
        gradient = design.T @ gaps_N
        hessian = (design * curves_N[:, None]).T @ design
        step = np.linalg.lstsq(hessian, gradient)[0]
        while True:
            trial = weights - step
            trial_loss = _cross_entropy(design @ trial + offset_N, targets_N, counts_N)
            if trial_loss <= loss or np.abs(step).max() < 1e-12:
                break
            step = step / 2
        if np.abs(step).max() <= 1e-12 * max(1.0, float(np.abs(weights).max())):
            return np.asarray(weights / scale)
        weights, loss = trial, trial_loss
    raise UserError("the calibration fit did not settle: look at the calibration logits")


def _cross_entropy(logits_N: Floats, targets_N: Floats, counts_N: Floats | None) -> float:
    losses_N = np.logaddexp(0, logits_N) - targets_N * logits_N
    return float((losses_N if counts_N is None else losses_N * counts_N).mean())


def separated(z: Floats, labels: Floats) -> bool:
    """Whether a threshold divides the classes, so that no steepness is too steep."""
    real, synthetic = z[labels == 0], z[labels == 1]
    return bool(real.max() <= synthetic.min() or synthetic.max() <= real.min())


def _refuse_separated(method: Method, z: Floats, labels: Floats) -> None:
    if method == "temperature":
        endless = z[labels == 0].max() <= 0 <= z[labels == 1].min()
    else:
        endless = method != "bias" and separated(z, labels)
    if endless:
        raise UserError(
            f"{method} has no finite fit: the calibration logits separate the classes; "
            "fit with smoothed targets or more items"
        )
