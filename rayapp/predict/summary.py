"""What a person is told of a run: verdicts, threshold, what to look at first, errors to expect."""

from collections.abc import Mapping
from typing import Any

from rayapp.dataset.declared.declaration import KINDS, NOTHING
from rayapp.models.calibration.decisions import upper_bound
from rayapp.models.verdicts import Judge

_CONFIDENCE = 0.95
_SHOWN_KINDS = 6


def threshold_line(judge: Judge) -> str:
    """From which probability on an image is called what."""
    if judge.classes:
        return "each image is given the likeliest class"
    if judge.band:
        low, high = judge.band
        return (
            f"synthetic from p ≥ {high:.3g}, real below {low:.3g}, unsure between (as calibrated)"
        )
    by = "--threshold" if judge.threshold is not None else "as calibrated"
    if judge.threshold is None and judge.calibration is None:
        by = "uncalibrated"
    return f"synthetic from p ≥ {judge.decides_at:.3g} ({by})"


def summary_lines(counts: Mapping[str, int], results: Mapping[str, Any]) -> list[str]:
    """How many are what, from where on, which to look at first, what was left out."""
    verdicts = [f"{count:,} {word}" for word, count in results["verdicts"].items()]
    text = ", ".join([*verdicts, f"{counts['failed']:,} not scored"])
    lines = [f"{text}; {results['threshold']}"]
    if nothing := results.get("nothing_to_judge"):  # runs of before do not say
        kinds_text = ", ".join(f"{count:,} {kind}" for kind, count in nothing.items())
        lines.append(f"unsure whatever the score: {kinds_text}")
    lines += _declared_lines(results)
    if results["look_at_first"]:
        lines.append("look first at: " + ", ".join(results["look_at_first"]))
    kinds: dict[str, int] = results["left_out"]
    if kinds:
        shown = [f"{count:,} {kind}" for kind, count in list(kinds.items())[:_SHOWN_KINDS]]
        others = len(kinds) - len(shown)
        shown += [f"{others:,} other kinds"] if others else []
        lines.append(f"left out, no images: {', '.join(shown)}")
    return lines


def _declared_lines(results: Mapping[str, Any]) -> list[str]:
    """What the files declare, where one declares anything; which goes against the detector."""
    kinds = {kind: count for kind, count in (results.get("declared") or {}).items() if count}
    if not kinds.keys() - {NOTHING}:
        return []
    counts = [f"{kinds[kind]:,} {kind}" for kind in KINDS if kind in kinds]
    lines = [f"the files declare: {', '.join(counts)}"]
    if number := results.get("conflicts"):
        lines.append(f"{number:,} against the detector, the first in scores.csv")
    return lines


def error_rates(judge: Judge) -> str:
    """How often the detector errs, as far as it knows, for people."""
    calibration = judge.calibration
    if judge.classes:
        return "How often it names the wrong class, this detector does not say."
    if calibration is None:
        return "How often it errs, nobody has counted: it carries no calibration."
    seen = calibration.observed
    if seen is None:
        return (
            f"How often it errs, its calibration on {calibration.n:,} images does not say; "
            "calibrate it again to have it counted."
        )
    if judge.threshold is not None:
        return (
            f"How often it errs from p ≥ {judge.threshold:g} on, nobody has counted: it was "
            f"calibrated to decide from {calibration.threshold:.3g} on."
        )
    reals = _of_hundred(seen.false_synthetic, seen.num_real, "synthetic", seen.unsure_real)
    fakes = _of_hundred(seen.false_real, seen.num_synthetic, "real", seen.unsure_synthetic)
    return (
        f"Of 100 real images like those it was calibrated on, it calls {reals}. Of 100 "
        f"synthetic ones it calls {fakes}. Images unlike those it gets wrong more often."
    )


def _of_hundred(wrong: int, total: int, word: str, unsure: int) -> str:
    """`about 1 synthetic (3 of 300 were; at most 3 by 95 % confidence)`."""
    bound = 100 * upper_bound(wrong, total, _CONFIDENCE)
    most = f"{bound:.1f}" if bound < 10 else f"{bound:.0f}"
    left = f", and is unsure of {_about(unsure, total)}" if unsure else ""
    return (
        f"{_about(wrong, total)} {word} ({wrong:,} of {total:,} counted; with "
        f"{100 * _CONFIDENCE:.0f} % confidence no more than {most}){left}"
    )


def _about(count: int, total: int) -> str:
    if count == 0:
        return "none"
    share = 100 * count / total
    return f"about {share:.0f}" if share >= 1 else "fewer than one"
