"""Bootstrap intervals: groups are resampled within strata, and figures follow by weights."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from rayapp.config.defaults import EVEN_ODDS, NUM_RESAMPLES
from rayapp.metrics.binary import FIGURES, Weighted, evaluate, finish
from rayapp.metrics.measure import Difference, Floats, Ints, Measure
from rayapp.metrics.scored import Scored
from rayapp.metrics.slices import macro

LEVELS = (0.025, 0.975)
_MAX_CELLS = 2**20
_MAX_UNDEFINED = 0.05


def group_strata(codes_N: Ints, num_groups: int, labels_N: Ints) -> list[Ints]:
    """Groups of reals only, of synthetics only, and of both: each is resampled by itself.

    So every resample has the data's number of single-class groups of either class, and
    a photograph with its synthetic copies stays one group.
    """
    has_synthetic = np.bincount(codes_N, weights=labels_N, minlength=num_groups) > 0
    has_real = np.bincount(codes_N, weights=1 - labels_N, minlength=num_groups) > 0
    kinds = (has_real & ~has_synthetic, ~has_real & has_synthetic, has_real & has_synthetic)
    return [np.flatnonzero(kind) for kind in kinds if kind.any()]


def resampled_groups(
    strata: list[Ints], num_groups: int, num_items: int, rng: np.random.Generator, num: int
) -> Iterator[Floats]:
    """How often each group is drawn in each of `num` resamples, in batches weights_RG."""
    batch = max(1, _MAX_CELLS // max(num_items, num_groups))
    for first in range(0, num, batch):
        rows = min(batch, num - first)
        weights_RG = np.zeros((rows, num_groups))
        offsets = np.arange(rows)[:, None]
        for groups in strata:
            drawn = rng.integers(0, len(groups), size=(rows, len(groups)))
            flat = (drawn + offsets * len(groups)).ravel()
            counts = np.bincount(flat, minlength=rows * len(groups))
            weights_RG[:, groups] = counts.reshape(rows, len(groups))
        yield weights_RG


def evaluate_with_intervals(
    scored: Scored,
    rng: np.random.Generator,
    threshold: float = EVEN_ODDS,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Measure]:
    """`evaluate` with 95 % percentile intervals over resampled groups.

    Resamples of the squared calibration error are shifted to the data's value first: resampling
    a squared gap adds its sampling noise a second time. No interval is given, and the reason is,
    where a kind of group (reals, synthetics, both) has one member, where more than 5 % of the
    resamples have no value, or where all resamples agree (a perfect score on few items is not
    certainty). A share of independent items of one class has its exact interval (Clopper and
    Pearson 1934), which needs no resampling.
    """
    measures = evaluate(scored, threshold)
    exact = _exact_intervals(scored, measures)
    codes, num_groups = scored.group_codes()
    strata = group_strata(codes, num_groups, scored.labels_N)
    if not strata or min(len(groups) for groups in strata) < 2:
        reason = "no interval: one group only of a kind"
        return {n: replace(m, reason=m.reason or reason) for n, m in measures.items()} | exact
    weighted = Weighted(scored, threshold)
    batches = [
        weighted.figures(weights_RG[:, codes])
        for weights_RG in resampled_groups(strata, num_groups, len(codes), rng, num_resamples)
    ]
    plain = weighted.figures(np.ones((1, len(codes))))
    return {
        name: _with_interval(name, measures[name], plain[name], _join(batches, name), num_groups)
        for name in FIGURES
    } | exact


_SHARES = {"false_positive_rate": 0, "accuracy_real": 0, "accuracy_synthetic": 1}  # of which class


def _exact_intervals(scored: Scored, measures: Mapping[str, Measure]) -> dict[str, Measure]:
    """The shares with their exact intervals; none where items share a group."""
    if scored.group_codes()[1] < len(scored.labels_N):
        return {}
    found = {}
    for name, label in _SHARES.items():
        measure, num = measures[name], int((scored.labels_N == label).sum())
        if measure.value is not None:
            ends = stats.binomtest(round(measure.value * num), num).proportion_ci(0.95, "exact")
            found[name] = replace(measure, low=float(ends.low), high=float(ends.high))
    return found


def macro_with_intervals(
    slices: Mapping[str, Scored],
    rng: np.random.Generator,
    threshold: float = EVEN_ODDS,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Measure]:
    """Unweighted mean of each figure over slices that name groups, with 95 % intervals.

    Groups are resampled once for all slices, so what slices share moves them together. Slices
    without a value are left out of the mean and named. Calibration error has no interval, as
    its resamples are biased.
    """
    values = {name: evaluate(scored, threshold) for name, scored in slices.items()}
    means = {figure: _mean_of({n: v[figure] for n, v in values.items()}) for figure in FIGURES}
    groups = {name: np.asarray(scored.groups_N) for name, scored in slices.items()}
    names = np.unique(np.concatenate(list(groups.values())))
    codes = {name: np.searchsorted(names, of_slice) for name, of_slice in groups.items()}
    all_labels = np.concatenate([s.labels_N for s in slices.values()])
    strata = group_strata(np.concatenate(list(codes.values())), len(names), all_labels)
    if not strata or min(len(groups) for groups in strata) < 2:
        return means
    defined = [f for f in FIGURES if f != "calibration_error" and means[f].value is not None]
    weighted = {name: Weighted(s, threshold) for name, s in slices.items()}
    longest = max(len(s.labels_N) for s in slices.values())
    batches = []
    for weights_RG in resampled_groups(strata, len(names), longest, rng, num_resamples):
        found = [w.figures(weights_RG[:, codes[name]]) for name, w in weighted.items()]
        batches.append({f: np.nanmean([one[f] for one in found], axis=0) for f in defined})
    return means | {
        figure: _with_interval(
            figure, means[figure], np.zeros(1), _join(batches, figure), len(names)
        )
        for figure in defined
    }


def _mean_of(slices: Mapping[str, Measure]) -> Measure:
    found = macro(slices)
    left_out = f"without {', '.join(found.left_out)}" if found.left_out else ""
    return replace(found.mean, reason=found.mean.reason or left_out)


def compare_figures(
    labels_N: Ints,
    first: tuple[Floats, Floats],
    second: tuple[Floats, Floats],
    rng: np.random.Generator,
    groups_N: object = None,
    thresholds: tuple[float, float] = (EVEN_ODDS, EVEN_ODDS),
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Difference]:
    """Paired bootstrap of each figure of the first detector minus the second's.

    `first` and `second` are (scores_N, probabilities_N) of the same items in the same order;
    both detectors see the same resampled groups. p is two-sided: twice the smaller share of
    resampled differences on one side of zero, at least 2 / (R + 1). Calibration error is left
    out, as its resamples are biased; for the AUC, `compare.compare_auc` needs no resampling.
    """
    groups = np.arange(len(labels_N)).astype(np.str_) if groups_N is None else groups_N
    groups = np.asarray(groups).astype(np.str_)
    pair = [
        Weighted(Scored.of(labels_N, scores, probabilities, groups), threshold)
        for (scores, probabilities), threshold in zip((first, second), thresholds, strict=True)
    ]
    codes = [weighted.scored.group_codes()[0] for weighted in pair]
    num_groups = len(np.unique(groups))
    strata = group_strata(codes[0], num_groups, pair[0].scored.labels_N)
    batches: list[Mapping[str, Floats]] = []
    for weights_RG in resampled_groups(strata, num_groups, len(groups), rng, num_resamples):
        a, b = (w.figures(weights_RG[:, c]) for w, c in zip(pair, codes, strict=True))
        batches.append({name: a[name] - b[name] for name in FIGURES})
    ones = np.ones((1, len(groups)))
    a, b = (weighted.figures(ones) for weighted in pair)
    lonely = min(len(stratum) for stratum in strata) < 2
    return {
        name: _difference(
            a[name] - b[name],
            _join(batches, name),
            num_groups,
            pair[0].reason(name) or ("one group only of a kind" if lonely else ""),
        )
        for name in FIGURES
        if name != "calibration_error"
    }


def _join(batches: list[Mapping[str, Floats]] | list[dict[str, Floats]], name: str) -> Floats:
    return np.concatenate([batch[name] for batch in batches])


def _with_interval(
    name: str, measure: Measure, plain: Floats, resampled_R: Floats, num_groups: int
) -> Measure:
    if measure.value is None:
        return measure
    defined = resampled_R[~np.isnan(resampled_R)]
    if len(defined) < (1 - _MAX_UNDEFINED) * len(resampled_R):
        missing = len(resampled_R) - len(defined)
        reason = f"no interval: undefined in {missing} of {len(resampled_R)} resamples"
        return replace(measure, reason=reason)
    if name == "calibration_error":
        defined = defined - defined.mean() + plain[0]
    low, high = np.quantile(finish(name, defined), LEVELS)
    if defined.min() == defined.max():
        return replace(measure, reason=f"no interval: all resamples of {num_groups} groups agree")
    return replace(measure, low=float(low), high=float(high))


def _difference(plain: Floats, resampled_R: Floats, num_groups: int, reason: str) -> Difference:
    method = "paired bootstrap"
    defined = resampled_R[~np.isnan(resampled_R)]
    if not reason and len(defined) < (1 - _MAX_UNDEFINED) * len(resampled_R):
        reason = f"undefined in {len(resampled_R) - len(defined)} of {len(resampled_R)} resamples"
    value = None if np.isnan(plain[0]) else float(plain[0])
    if reason:
        return Difference(value, None, None, None, method, num_groups, reason)
    low, high = np.quantile(defined, LEVELS)
    smaller = min((defined <= 0).sum(), (defined >= 0).sum())
    p_value = min(1.0, 2 * float(smaller + 1) / (len(defined) + 1))
    return Difference(value, float(low), float(high), p_value, method, num_groups)
