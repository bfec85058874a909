"""What figures do not show, in words: no better than chance, detectors that can't be told apart."""

from collections.abc import Sequence

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
