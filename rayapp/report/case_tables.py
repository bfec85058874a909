"""Known cases on a page: what broke and was mended, with the pictures where they are at hand."""

from collections.abc import Sequence

from rayapp.dataset.images import ImageError, decode
from rayapp.metrics.regressions import CHANGES, KnownCase, Regressions
from rayapp.pages.blocks import Block, Gallery, Highlight, Highlights, Notice, Picture, Prose, Table
from rayapp.pages.thumbnails import thumbnail
from rayapp.storage.uris import open_store

_MOST_ROWS, _MOST_PICTURES = 50, 12


def known_cases(several: Sequence[Regressions]) -> list[Block]:
    """Detector by detector: counts, pictures of what changed sides, and the table."""
    return [block for one in several for block in _of_one(one)]


def _of_one(one: Regressions) -> list[Block]:
    against = f" against {one.against}" if one.against else ""
    text = f"{one.detector}{against}: {one.counted}. All are listed in `{one.file}`."
    blocks: list[Block] = [Prose(text), Highlights(_highlights(one))]
    blocks += [Notice(f"{remark}.", "warning") for remark in one.remarks]
    for change, tone in (("broke", "wrong"), ("mended", "right")):
        changed = [case for case in one.cases if case.change == change]
        pictures = [made for case in changed[:_MOST_PICTURES] if (made := _picture(case, tone))]
        blocks += [Gallery(pictures, f"{change.capitalize()}.")] if pictures else []
    if one.cases:
        blocks.append(_table(one))
    return blocks


def _highlights(one: Regressions) -> list[Highlight]:
    return [
        Highlight(one.word(change), one.counts[change])
        for change in CHANGES
        if change in one.counts
    ]


def _picture(case: KnownCase, tone: str) -> Picture | None:
    try:
        pixels = decode(open_store(case.root or ".").get(case.path)).pixels_HWC
    except (OSError, ImageError):
        return None
    moved = f"p {_p(case.p_before)} → {_p(case.p_now)}"
    lines = [f"is {case.known}, was called {case.before}", moved]
    title = case.path.rpartition("/")[2]
    return Picture(thumbnail(pixels), title, lines, mark=case.now, tone=tone)  # type: ignore[arg-type]


def _p(probability: float | None) -> str:
    return "–" if probability is None else f"{probability:.3f}"


def _table(one: Regressions) -> Table:
    shown = one.cases[:_MOST_ROWS]
    rows = [
        (
            case.path,
            one.word(case.change),
            case.known,
            case.before or "–",
            case.now or case.error,
            case.p_before,
            case.p_now,
        )
        for case in shown
    ]
    columns = ("image", "change", "is", "before", "now", "P before", "P now")
    text = "Cases that are not called what they are, or were not."
    if len(shown) < one.num_cases - one.counts.get("stays right", 0):
        text += f" The first {len(shown)}."
    return Table(columns, rows, text)
