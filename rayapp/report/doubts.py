"""Figures in words: what to expect, what is no better than chance, what can't be told apart."""

from collections.abc import Callable, Sequence

from rayapp.metrics.evaluation import Comparison, Evaluation, Figure, Slice

_CHANCE = 0.5


def against_chance(auc: Figure) -> str:
    """Where a ROC AUC is not above chance: that it is not; else nothing."""
    if auc.value is None or auc.low is None or auc.high is None:
        return ""
    if auc.low <= _CHANCE <= auc.high:
        return "no better than chance"
    if auc.high < _CHANCE:
        return "below chance, scores run against the labels"
    return ""


def to_expect(one: Evaluation) -> str:
    """What to expect of a detector on images such as these, in a few sentences."""
    whole, said = one.whole, []
    auc = whole.figures.get("roc_auc", Figure())
    if auc.value is not None:
        doubt = against_chance(auc)
        said.append(
            f"ROC AUC {auc.value:.3f}{_interval(auc, _three_digits)}{doubt and ', ' + doubt}"
            + _where_worse(one, auc.value)
        )
    rates = (
        ("false_positive_rate", f"calls {{}} of {whole.num_real:,} real images synthetic{{}}"),
        ("accuracy_synthetic", f"finds {{}} of {whole.num_synthetic:,} synthetic ones{{}}"),
    )
    found = [(words, whole.figures.get(name, Figure())) for name, words in rates]
    calls = [
        words.format(_percent(rate.value), _interval(rate, _percent))
        for words, rate in found
        if rate.value is not None
    ]
    if calls:
        said.append(f"at its threshold {one.threshold:.3g} it {' and '.join(calls)}")
    return f"What to expect of {one.detector_name} on such images: {'; '.join(said)}."


def _where_worse(one: Evaluation, auc: float) -> str:
    worst = one.worst.get("roc_auc")
    if worst is None or worst.figure.value is None or worst.figure.value >= auc:
        return ""  # of one slice it is the whole
    return f", {worst.figure.value:.3f} on {worst.name}, where it is worst"


def _three_digits(value: float) -> str:
    return f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _interval(figure: Figure, shown: Callable[[float], str]) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" (95\N{NO-BREAK SPACE}% interval {shown(figure.low)} to {shown(figure.high)})"


def against_others(one: Evaluation, part: Slice, comparisons: Sequence[Comparison]) -> str:
    """Which other detectors of the suite one can't be told apart from, and which it can.

    By the paired 95 % interval of the difference of ROC AUC on the slice; on the whole test set
    where the slice is a mean, of which none was made.
    """
    among = [c for c in comparisons if c.suite == one.suite and c.figure == "roc_auc"]
    compared = part.name if any(c.slice == part.name for c in among) else one.whole.name
    same: list[str] = []
    better: list[str] = []
    worse: list[str] = []
    for found in among:
        names = (found.first, found.second)
        low, high = found.difference.low, found.difference.high
        if found.slice != compared or one.detector_name not in names or low is None or high is None:
            continue
        other = names[names[0] == one.detector_name]
        ahead = (low > 0) == (names[0] == one.detector_name)
        (same if low <= 0 <= high else better if ahead else worse).append(other)
    verdicts = (
        (same, "can't be told apart from {}"),
        (better, "is better than {}"),
        (worse, "is worse than {}"),
    )
    sentences = [words.format(_listed(names)) for names, words in verdicts if names]
    if not sentences:
        return ""
    return f"On the same images {one.detector_name} {'; it '.join(sentences)}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])
