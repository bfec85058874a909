"""A verdict in words, and what it rests on: the threshold, and how often the detector errs."""

from rayapp.models.calibration.decisions import upper_bound
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE, Judge, Judgement

NO_PROOF = (
    "A verdict is no proof. It holds for images like those that the detector was calibrated on, "
    "and says nothing of who made an image or why."
)
DECLARES_NOTHING = (
    "The file declares nothing. That is no sign of a real image: most services remove what there "
    "was."
)
UNSIGNED_IS_WEAK = "What is not signed anyone can write. The detector's score knows none of this."
STANDS = "The verdict stands however the picture is delivered"
DEPENDS = "The verdict depends on how the picture is delivered: take it for unsure"
MAP_LEGEND = (
    "The stronger the orange, the likelier AI-generated. Of parts the probabilities order, and "
    "promise nothing."
)
NO_MAP = "Where in the picture the detector sees what, it cannot say."
ONE_CELL = "The picture is no larger than what the detector sees at once: there is no map of it."
_CONFIDENCE = 0.95


def verdict_sentence(judged: Judgement) -> str:
    """What the detector says of an image, in a sentence or two."""
    if judged.error:
        return f"The detector could not judge this image: {judged.error}."
    p, threshold, word = judged.probability, judged.threshold, judged.verdict
    if threshold is None:
        return f"The detector says {word}, with probability {p:.3f}."
    given = f"It gives a probability of {p:.3f} that the image is AI-generated"
    if word == UNSURE:
        return f"The detector is unsure: {judged.reason}. {given}; it decides at {threshold:.3g}."
    said = {SYNTHETIC: "AI-generated", REAL: "a real photograph or drawing"}[word]
    given = f"{given}; it decides at {threshold:.3g}."
    if judged.reason in ("", UNCALIBRATED):
        note = f" The detector is {UNCALIBRATED}." if judged.reason else ""
        return f"The detector takes this image to be {said}. {given}{note}"
    return f"The image is {said}, {judged.reason}. {given.replace('It', 'The detector', 1)}"


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
