"""How well a file's outside alone tells real from synthetic: a detector will learn that instead.

A feature's score for an image is the smoothed share of synthetic images among the others with the
same value, learnt on four fifths of the groups and read off the fifth (Grommelt et al., "Fake or
JPEG?", arXiv 2403.17608, show that detectors take such shortcuts). Numbers are cut into 32 bins of
equal counts first.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayapp.metrics.compare import compare_auc
from rayapp.metrics.measure import Floats, Ints, Measure

TOGETHER = "all together"
# Of the pixels, not of the file's outside: contents may differ in them, and so may a trace.
OF_PIXELS = frozenset({"brightness", "chroma", "noise level"})
ALARM = 0.6  # a lower end of the AUC's interval above this is a shortcut
_FOLDS, _BINS = 5, 32
_PRIOR = 2.0  # images of the base rate that each value is given


@dataclass(frozen=True)
class Shortcut:
    """One feature of files: AUC with a 95 % interval (DeLong), and its most telling values."""

    feature: str
    auc: Measure
    telling: Sequence[str]

    @property
    def alarms(self) -> bool:
        """Whether origin can be told by it."""
        return self.auc.low is not None and self.auc.low > ALARM


def features(table: pa.Table) -> dict[str, list[str]]:
    """Feature → its value for each row, as text; numbers as bins."""
    columns = {name: table[name].to_pylist() for name in table.column_names}
    found = {"file suffix": [_suffix(path) for path in columns["path"]]}
    if "container" not in columns:
        return found
    width, height = (np.array(columns[name], float) for name in ("width", "height"))
    size = np.array(columns["bytes"], float)
    return found | {
        "container": columns["container"],
        "quality table": [
            f"quality {q}" if q else t or "none"
            for q, t in zip(columns["quality"], columns["tables"], strict=True)
        ],
        "subsampling": [text or "none" for text in columns["subsampling"]],
        "dimensions": [f"{int(w)}×{int(h)}" for w, h in zip(width, height, strict=True)],
        "number of pixels": _bins(width * height, "px"),
        "file size": _bins(size, "bytes"),
        "bytes a pixel": _bins(size / (width * height), "bytes/px"),
        "metadata": [text or "none" for text in columns["metadata"]],
        "declared": columns["declared"],
        "brightness": _bins(np.array(columns["brightness"], float), "levels"),
        "chroma": _bins(np.array(columns["chroma"], float), "levels"),
        "noise level": _bins(np.array(columns["noise"], float), "levels"),
    }


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else "none"


def _bins(values_N: Floats, unit: str) -> list[str]:
    edges = np.unique(np.quantile(values_N, np.linspace(0, 1, _BINS + 1)))
    code_N = np.clip(np.searchsorted(edges, values_N, side="right") - 1, 0, max(len(edges) - 2, 0))
    names = [f"{_number(low)} to {_number(high)} {unit}" for low, high in pairwise(edges)]
    return [names[k] for k in code_N] if names else [f"{_number(v)} {unit}" for v in values_N]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def shortcuts(
    found: Mapping[str, Sequence[str]], synthetic_N: Ints, groups: Sequence[str]
) -> list[Shortcut]:
    """Each feature, and all of the files' outside together (naive Bayes), the most telling first.

    Args:
        found: feature → value of each image.
        synthetic_N: 1 for synthetic, 0 for real.
        groups: images of one group (copies) are never on both sides of a fold.
    """
    fold_N = np.array([hashlib.sha256(g.encode()).digest()[0] % _FOLDS for g in groups])
    codes = np.unique(np.array(groups), return_inverse=True)[1]
    evidence, num_outside = np.zeros(len(synthetic_N)), 0
    result = []
    for name, values in found.items():
        rate_N = _rates(values, synthetic_N, fold_N)
        if name not in OF_PIXELS:
            evidence += np.log(rate_N) - np.log1p(-rate_N)
            num_outside += 1
        result.append(
            Shortcut(name, _auc(synthetic_N, rate_N, codes), _telling(values, synthetic_N))
        )
    if num_outside > 1:
        result.append(Shortcut(TOGETHER, _auc(synthetic_N, evidence, codes), ()))
    return sorted(result, key=lambda one: -(one.auc.value or 0))


def _rates(values: Sequence[str], synthetic_N: Ints, fold_N: NDArray[np.int64]) -> Floats:
    """Share of synthetics with the same value in the other folds, between 0 and 1."""
    names, code_N = np.unique(np.array(values), return_inverse=True)
    rate_N = np.empty(len(values))
    for fold in range(_FOLDS):
        rest = fold_N != fold
        base = synthetic_N[rest].mean() if rest.any() else 0.0
        if not 0 < base < 1:
            rate_N[~rest] = 0.5
            continue
        total = np.bincount(code_N[rest], minlength=len(names))
        hits = np.bincount(code_N[rest], weights=synthetic_N[rest], minlength=len(names))
        # Against the base rate of these folds, so that folds can be ranked together; rounded, so
        # that equal values rank alike.
        odds = (hits + _PRIOR * base) / (total - hits + _PRIOR * (1 - base))
        odds = np.round(odds * (1 - base) / base, 9)
        rate_N[~rest] = (odds / (1 + odds))[code_N[~rest]]
    return rate_N


def _auc(synthetic_N: Ints, score_N: Floats, groups_N: NDArray[np.int64]) -> Measure:
    """AUC of a score with its interval: its difference from a score that tells nothing."""
    beyond = compare_auc(synthetic_N, score_N, np.zeros(len(score_N)), groups_N)
    if beyond.value is None:
        return Measure(None, reason=beyond.reason)
    if beyond.low is None or beyond.high is None:
        return Measure(beyond.value + 0.5, reason=beyond.reason)
    low, high = max(0.0, beyond.low + 0.5), min(1.0, beyond.high + 0.5)
    return Measure(beyond.value + 0.5, low, high)


def _telling(values: Sequence[str], synthetic_N: Ints, most: int = 3) -> list[str]:
    """The values that part the origins most: `value: 12 real, 340 synthetic`."""
    names, code_N = np.unique(np.array(values), return_inverse=True)
    synthetic = np.bincount(code_N, weights=synthetic_N, minlength=len(names)).astype(int)
    real = np.bincount(code_N, minlength=len(names)) - synthetic
    parted = abs(synthetic / max(synthetic.sum(), 1) - real / max(real.sum(), 1))
    order = np.argsort(-parted, kind="stable")[:most]
    return [f"{names[k]}: {real[k]:,} real, {synthetic[k]:,} synthetic" for k in order]
