"""What a person is told of a run: verdicts, threshold, what to look at first, what was left out."""

from collections.abc import Mapping
from typing import Any

from rayapp.dataset.declared.declaration import KINDS, NOTHING
from rayapp.dataset.repeats import Repeats

_SHOWN_KINDS, _SHOWN_REPEATS = 6, 2


def summary_lines(counts: Mapping[str, int], results: Mapping[str, Any]) -> list[str]:
    """How many are what, from where on, which to look at first, what was left out."""
    verdicts = [f"{count:,} {word}" for word, count in results["verdicts"].items()]
    text = ", ".join([*verdicts, f"{counts['failed']:,} not scored"])
    lines = [f"{text}; {results['threshold']}"]
    if nothing := results.get("nothing_to_judge"):  # runs of before do not say
        kinds_text = ", ".join(f"{count:,} {kind}" for kind, count in nothing.items())
        lines.append(f"unsure whatever the score: {kinds_text}")
    if flips := results.get("flips"):
        lines.append(f"{flips:,} depend on delivery, and are unsure")
    if why := results.get("no_map"):
        lines.append(f"no map is kept: {why}")
    lines += _declared_lines(results)
    if results["look_at_first"]:
        lines.append("look first at: " + ", ".join(results["look_at_first"]))
    if repeats := results.get("repeats"):
        found = Repeats(**repeats)
        if found.files:
            named = "; ".join(found.lines(_SHOWN_REPEATS))
            lines.append(f"{found.files:,} files repeat the bytes of another: {named}")
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
