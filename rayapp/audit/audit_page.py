"""audit.html: what was found, first in sentences, then in tables and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayapp.audit.findings import Copies, Finding, Pair
from rayapp.audit.inspected import Inspected
from rayapp.audit.shortcuts import ALARM, Shortcut
from rayapp.config.defaults import __version__
from rayapp.dataset.images import ImageError, decode
from rayapp.dataset.repeats import Repeats
from rayapp.pages.blocks import (
    Block,
    Figures,
    Gallery,
    Highlight,
    Highlights,
    Notice,
    Picture,
    Prose,
    Table,
    Value,
)
from rayapp.pages.charts import slices_figure
from rayapp.pages.page import Page, Section
from rayapp.pages.thumbnails import thumbnail
from rayapp.storage.store import Store

_PAIRS, _GROUPS = 8, 6


def render(
    facts: Mapping[str, Any],
    findings: Sequence[Finding],
    shortcuts: Sequence[Shortcut],
    copies: Copies | None,
    seen: Inspected | None,
    root: Store | None,
) -> str:
    """The page as text; `copies`, `seen` and `root` are None where no image was read."""
    sections = [Section("Findings", _opening(facts, findings, seen, copies))]
    sections.append(Section("Lists", _lists(facts)))
    if shortcuts:
        sections.append(Section("Shortcuts", _shortcuts(shortcuts)))
    if seen is not None and copies is not None and root is not None:
        sections.append(Section("Copies", _copies(copies, root)))
        sections.append(Section("Files", _files(seen)))
    sections.append(Section("Balance", [_balance(facts["balance"])]))
    return _page(findings, sections)


def render_set(seen: Inspected, findings: Sequence[Finding], repeats: Repeats) -> str:
    """The page of a set of any size, of which the images were inspected."""
    items = [
        Highlight("Wrong", sum(one.wrong for one in findings), "findings"),
        Highlight("Decoded", seen.rows - seen.failed, f"{seen.failed:,} failed"),
        Highlight("Repeated", repeats.files, f"files, of {repeats.groups:,} others"),
    ]
    about = Notice(
        "The images of a set were inspected, one by one and for equal bytes. With lists of labels "
        "(`--annotations`), an audit also finds look-alikes, leaks between lists and shortcuts."
    )
    sections = [Section("Findings", [Highlights(items), about, *_notices(findings)])]
    if repeats.largest:
        rows: list[list[Value]] = [list(one) for one in repeats.largest]
        named = f"; the {len(rows)} largest groups" if repeats.groups > len(rows) else ""
        table = Table(["files", "first", "last"], rows, f"Files of equal bytes{named}.")
        sections.append(Section("Copies", [table]))
    sections.append(Section("Files", _files(seen)))
    return _page(findings, sections)


def _page(findings: Sequence[Finding], sections: Sequence[Section]) -> str:
    wrong = [one for one in findings if one.wrong]
    return Page(
        title="Dataset audit",
        summary=_summary(wrong),
        sections=sections,
        kicker="AI-generated or real",
        footer=f"imaginet-ray {__version__}",
    ).html()


def _summary(wrong: Sequence[Finding]) -> str:
    if not wrong:
        return "Nothing is wrong with these lists and images, as far as this audit looks."
    count = f"{len(wrong)} things are" if len(wrong) > 1 else "One thing is"
    return f"{count} wrong. First: {wrong[0].text.split(';')[0]}."


def _opening(
    facts: Mapping[str, Any],
    findings: Sequence[Finding],
    seen: Inspected | None,
    copies: Copies | None,
) -> list[Block]:
    items = [
        Highlight("Wrong", sum(one.wrong for one in findings), "findings"),
        Highlight("Lists", len(facts["lists"]), f"{facts['images']:,} different images"),
    ]
    if seen is not None and copies is not None:
        items.append(Highlight("Decoded", seen.rows - seen.failed, f"{seen.failed:,} failed"))
        items.append(Highlight("Look like another", copies.num_alike, "images"))
    blocks: list[Block] = [Highlights(items)]
    if seen is None:
        blocks.append(Notice("Lists only: no image was read."))
    return blocks + _notices(findings)


def _notices(findings: Sequence[Finding]) -> list[Block]:
    ordered = sorted(findings, key=lambda one: not one.wrong)
    return [Notice(one.text, "warning" if one.wrong else "note") for one in ordered]


def _lists(facts: Mapping[str, Any]) -> list[Block]:
    rows: list[list[Value]] = [list(one.values()) for one in facts["lists"]]
    blocks: list[Block] = [
        Table(
            ["list", "role", "rows", "different", "real", "synthetic", "defects"],
            rows,
            "Roles are read off the names: calib…, anchor…, train…, head…, else test.",
        )
    ]
    shared = [
        [
            one["first"],
            one["second"],
            one["shared"],
            one["shared"] / one["of_first"],
            one["shared"] / one["of_second"],
            one["real"],
            one["synthetic"],
        ]
        for one in facts["overlaps"]
    ]
    if shared:
        columns = ["list", "and", "share", "of the first", "of the second", "real", "synthetic"]
        percent = {"of the first": ".1%", "of the second": ".1%"}
        blocks.append(Table(columns, shared, "Images that any two lists share, by path.", percent))
    families = [
        [
            one["whole"],
            len(one["parts"]),
            one["real_rows"],
            one["real_different"],
            one["real_shared_by_parts"],
            one["real_never_used"],
            one["synthetic_never_used"],
        ]
        for one in facts["families"]
    ]
    if families:
        columns = [
            "list",
            "parts",
            "real rows",
            "different",
            "in several parts",
            "real never used",
            "synthetic never used",
        ]
        blocks.append(
            Table(columns, families, "Lists that others, of one generator each, make up.")
        )
    return blocks


def _balance(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ["list", "content", "maker", "images", "share", "published"]
    published = any(one["published"] is not None for one in rows)
    of = "; published: arXiv 2407.20020, Table 2." if published else "."
    return Table(
        columns,
        [[one[name] for name in columns] for one in rows],
        f"Different images by content and by who made them{of}",
        {"share": ".1%", "published": ".1%"},
    )


def _shortcuts(found: Sequence[Shortcut]) -> list[Block]:
    rows: list[list[Value]] = [[one.feature, one.auc, "; ".join(one.telling)] for one in found]
    drawn = {"origin without any trace": {one.feature: one.auc for one in found}}
    return [
        Prose(
            "How well origin can be told without looking for a trace: by the file's outside, and "
            "by the brightness, chroma and noise of its pixels. 0.5 is chance; whatever is "
            f"far above (here: surely above {ALARM}) a detector will learn instead of the "
            "generator's traces, and lose where files come in another way."
        ),
        Figures([slices_figure(drawn, "ROC AUC", reference=0.5)]),
        Table(["feature", "ROC AUC", "most telling values"], rows),
    ]


def _copies(copies: Copies, root: Store) -> list[Block]:
    blocks: list[Block] = []
    if copies.contradictions:
        caption = "Equal bytes labelled real and synthetic: one label of each pair is wrong."
        first = copies.contradictions[:_PAIRS]
        blocks.append(Gallery([p for pair in first for p in _pictures(pair, root)], caption))
    if copies.across:
        worst = sorted(copies.across, key=lambda pair: (pair.distance, pair.one))[:_PAIRS]
        caption = "The same picture in lists that must be apart, side by side."
        blocks.append(Gallery([p for pair in worst for p in _pictures(pair, root)], caption))
    if copies.other_origin:
        worst = sorted(copies.other_origin, key=lambda pair: (pair.distance, pair.one))[:_PAIRS]
        caption = "Real beside synthetic: the nearest look-alikes of two origins."
        blocks.append(Gallery([p for pair in worst for p in _pictures(pair, root)], caption))
    if copies.same_bytes:
        groups = [
            _picture(group[0], root, f"{len(group)} files", group, "same bytes")
            for group in copies.same_bytes[:_GROUPS]
        ]
        blocks.append(Gallery(groups, "Files of equal bytes."))
    return blocks or [Prose("No image is a copy of another, and none looks like another.")]


def _pictures(pair: Pair, root: Store) -> list[Picture]:
    how = "same bytes" if pair.how == "sha256" else f"{pair.distance} of 256 bits apart"
    return [
        _picture(path, root, role, [path, how], role)
        for path, role in zip((pair.one, pair.other), pair.roles, strict=True)
    ]


def _picture(path: str, root: Store, title: str, lines: Sequence[str], mark: str) -> Picture:
    try:
        uri = thumbnail(decode(root.get(path)).pixels_HWC)
    except (OSError, ImageError) as error:  # it has changed since it was read
        return Picture("data:,", title, [*lines[:3], str(error)], mark, "unsure")
    return Picture(uri, title, list(lines[:3]), mark, "wrong" if mark in title else "plain")


def _files(seen: Inspected) -> list[Block]:
    blocks: list[Block] = []
    for kind, failed in (("missing", seen.missing), ("broken", seen.broken)):
        if failed.count:
            more = f"; the first {len(failed.lines)}" if failed.count > len(failed.lines) else ""
            caption = f"{failed.count:,} files are {kind}{more}."
            blocks.append(Table(["file and why"], [[line] for line in failed.lines], caption))
    rows: list[list[Value]] = [
        [
            origin,
            container,
            bits,
            int(number),
            round(size / number / 1000),
            round(width / number),
            round(height / number),
        ]
        for (origin, container, bits), (number, size, width, height) in sorted(
            seen.kinds.items(), key=str
        )
    ]
    columns = ["origin", "container", "bits", "images", "mean kB", "mean width", "mean height"]
    blocks.append(Table(columns, rows, "Files that decode."))
    return blocks
