"""What a comparison means for thresholds, in words and as Prometheus lines."""

from collections.abc import Iterator, Sequence

from rayapp.drift.differences import BEFORE, LEAST_IN_CLASS, Comparison, VerdictShare
from rayapp.drift.known_reals import KnownReals
from rayapp.metrics.shift import ALPHA, LEAST_EFFECT, Shift

NO_DRIFT = "no drift found"
OTHER_IMAGES = "other images come in, their scores are as before: thresholds hold so far"
SCORES_SHIFT = "scores shift: thresholds may no longer hold"
CHANGED = "scores differ from the days before: another share of synthetic images, or other images"
UNLIKE = "scores differ from the other counts: another share of synthetic images, or other images"
BROKEN = "the promised rate of false positives no longer holds"
_WHAT_TO_DO = {
    NO_DRIFT: "",
    OTHER_IMAGES: "look at the images of what is new; mark some, so that the rate is known",
    CHANGED: "look at the gallery of these days; mark some, so that the rate is known",
    UNLIKE: "look at the galleries of both; mark some images, so that the rate is known",
    SCORES_SHIFT: "mark images of these days in the gallery, then imaginet calibrate --reviews",
    BROKEN: "mark more images of these days in the gallery, then imaginet calibrate --reviews",
}


def outcome(found: Comparison, reals: KnownReals | None) -> str:
    """The gravest of the outcomes."""
    if reals and reals.broken:
        return BROKEN
    if found.scores_shift:
        return SCORES_SHIFT
    if found.scores_changed:
        return CHANGED if found.ending == BEFORE else UNLIKE
    return OTHER_IMAGES if found.found else NO_DRIFT


def what_to_do(word: str) -> str:
    """What to do about an outcome; empty: nothing."""
    return _WHAT_TO_DO[word]


def lines(found: Comparison, reals: KnownReals | None) -> Iterator[str]:
    """For a terminal: what differs, what crosses, how often reals are called synthetic."""
    width = max(len(one.name) for one in found.shifts)
    yield f"{'':<{width}}  {'images':>9}  {'effect':>6}  {'p':>7}"
    for one in found.shifts:
        mark = "  differs" if one.found else ""
        yield f"{one.name:<{width}}  {one.num:>9,}  {one.effect:>6.3f}  {one.p_value:>7.2g}{mark}"
    if found.share_synthetic is not None:
        share = f"{found.share_synthetic:.1%}"
        yield f"nearest to a calibration set of which {share} is synthetic"
    for share_of in found.verdicts:
        yield verdict_line(share_of)
    if found.unlike:
        named = [f"{num:,} {kind} {size}" for (kind, size), num in list(found.unlike.items())[:4]]
        yield (
            f"of the reference no class has {LEAST_IN_CLASS} of the same format and size: "
            f"{', '.join(named)}"
        )
    if reals:
        yield reals_line(reals)
        yield from reals.warnings


def verdict_line(one: VerdictShare) -> str:
    """How many images got a verdict, with interval, and how many the reference explains."""
    low, high = one.interval
    text = f"called {one.verdict}: {one.observed:.1%} [{low:.1%}, {high:.1%}]"
    return text + (f", {one.expected:.1%} by the reference" if one.expected is not None else "")


def reals_line(reals: KnownReals) -> str:
    """The rate of false positives on images that are known to be real."""
    low, high = reals.interval
    text = (
        f"false positives: {reals.rate:.2%} [{low:.2%}, {high:.2%}] of {reals.num:,} known real "
        f"images ({reals.num_marked:,} marked)"
    )
    text += f", promised {reals.promised:.2%}" if reals.promised is not None else ""
    return text + (f"; {reals.over}" if reals.over else "")


def how() -> str:
    """What is called a difference."""
    return (
        "A comparison differs where its p-value, for all comparisons together (Holm; verdicts "
        f"follow from logits and reasons and count for none), is at most {ALPHA:g} and its effect "
        f"at least {LEAST_EFFECT:g}. The effect is, of logits, the largest distance of the two "
        "cumulative distributions (Kolmogorov–Smirnov), and of words the share that would have to "
        "be another (total variation). The p-value is of logits that of Neyman's smooth statistic "
        "(mean, spread, skew and tails), and of words that of squared differences. Against a "
        "calibration, traffic is compared with the mixture of its real and synthetic images that "
        "lies nearest: another share of synthetic images is no drift."
    )


def prometheus(detector: str, word: str, found: Comparison, reals: KnownReals | None) -> str:
    """The same as gauges, for a textfile collector."""
    of = f'detector="{detector[:12]}"'
    given = [
        (
            "drift_found",
            "Whether a day differs from the reference",
            [("", float(word != NO_DRIFT))],
        ),
        ("drift_effect", "Size of each difference", _by_name(found.shifts, "effect")),
        ("drift_p_value", "For all comparisons together", _by_name(found.shifts, "p_value")),
        (
            "verdict_share",
            "Share of images by verdict",
            [(f',verdict="{one.verdict}"', one.observed) for one in found.verdicts],
        ),
    ]
    if reals:
        given.append(("false_positive_rate", "Of known real images", [("", reals.rate)]))
    text = ""
    for name, says, values in given:
        text += f"# HELP imaginet_{name} {says}.\n# TYPE imaginet_{name} gauge\n"
        text += "".join(f"imaginet_{name}{{{of}{label}}} {value:.6g}\n" for label, value in values)
    return text


def _by_name(shifts: Sequence[Shift], field: str) -> list[tuple[str, float]]:
    return [(f',of="{one.name}"', getattr(one, field)) for one in shifts]
