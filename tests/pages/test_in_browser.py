import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayapp.pages.blocks import Gallery, Picture
from rayapp.pages.page import Page, Section
from rayapp.pages.thumbnails import thumbnail
from tests.pages.browser import BROKEN_WORDS, CHROMIUM, Tab, visit
from tests.pages.examples import all_figures, example_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

COLUMN = "[...document.querySelectorAll('tbody')[0].rows].map(r => r.cells[{}].innerText)"
SORT = "document.querySelectorAll('th button')[{}].click()"
COPY = """(async () => {{
  const button = document.querySelector('[data-copy="{}"]');
  button.click();
  for (let k = 0; k < 100 && !button.dataset.copied; k++)
    await new Promise((r) => setTimeout(r, 20));
  return button.dataset.copied;
}})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(example_page(list(all_figures().values())).html(), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1280, 390])
def test_draws_everything_without_complaint(page: Path, width: int, scheme: str) -> None:
    async def look(tab: Tab) -> dict[str, Any]:
        await tab.open(page, width, scheme)
        return {
            "wide": await tab.value("document.documentElement.scrollWidth"),
            "undrawn": await tab.value(
                "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
            ),
            "pictures": await tab.value("document.images.length"),
            "table scrolls": await tab.value(
                "(b => b.scrollWidth > b.clientWidth)(document.querySelectorAll('.scroll')[1])"
            ),
            "complaints": tab.complaints,
        }

    seen = visit(look)
    assert seen["wide"] <= width
    assert seen["undrawn"] == 0
    assert seen["pictures"] == 11
    assert seen["table scrolls"]
    assert seen["complaints"] == []


def test_a_script_error_would_be_seen(page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace('"use strict";', "missing();"))

    async def look(tab: Tab) -> list[str]:
        await tab.open(broken, 1280)
        await tab.value("1")
        return tab.complaints

    assert any("missing" in complaint for complaint in visit(look))


@pytest.mark.parametrize("width", [1280, 390])
def test_no_word_is_broken(page: Path, width: int) -> None:
    async def look(tab: Tab) -> list[str]:
        await tab.open(page, width)
        broken: list[str] = await tab.value(BROKEN_WORDS)
        return broken

    assert visit(look) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_scrolls_shows_it_without_a_script(page: Path, scheme: str) -> None:
    async def look(tab: Tab) -> list[dict[str, Any]]:
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(page, 1280, scheme)
        return [
            {
                "hint": await tab.value(HINT.format(at)),
                "edge": await shade(tab, at),
                "end": await shade(tab, at, "scrollLeft = 1e6"),
            }
            for at in (0, 1)
        ]

    fits, wide = visit(look)
    assert fits["hint"] == 0
    assert fits["edge"] == fits["end"] < 2
    assert wide["hint"] > 15
    assert wide["edge"] > 10
    assert wide["end"] < 2


HINT = "document.querySelectorAll('.more')[{}].getBoundingClientRect().height"


async def shade(tab: Tab, at: int, then: str = "tabIndex") -> float:
    """How much darker a table's right edge is than a place before it, above its words."""
    right, top = await tab.value(
        f"(b => {{ b.{then}; const r = b.getBoundingClientRect();"
        f"return [r.right, r.top + scrollY] }})(document.querySelectorAll('.scroll')[{at}])"
    )
    clip = {"x": right - 150, "y": top + 3, "width": 150, "height": 3, "scale": 1}
    taken = await tab.call("Page.captureScreenshot", format="png", clip=clip)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("L"))
    return float(np.median(pixels[:, :20])) - float(np.median(pixels[:, -10:-5]))


def test_sorting_and_copying_by_click(page: Path) -> None:
    async def click(tab: Tab) -> dict[str, Any]:
        await tab.open(page, 1280)
        result: dict[str, Any] = {"csv": await tab.value(COPY.format("csv"))}
        result["markdown"] = await tab.value(COPY.format("markdown"))
        result["latex"] = await tab.value(COPY.format("latex"))
        for name in ("down", "up"):
            await tab.value(SORT.format(2))
            result[name] = await tab.value(COLUMN.format(0))
        result["commands"] = await tab.value(COPY.format("text"))
        return result

    seen = visit(click)
    assert seen["csv"].splitlines()[:3] == [
        "slice,n,auc,auc low,auc high,note",
        "gen_0 50%,0,0.9,0.85,0.95,x|y",
        "gen_1 50%,10,,,,x|y",
    ]
    assert seen["markdown"].splitlines()[:3] == [
        "| slice | n | auc | note |",
        "| :--- | ---: | ---: | :--- |",
        "| gen_0 50% | 0 | 0.900 [0.850, 0.950] | x\\|y |",
    ]
    assert "gen\\_0 50\\% & 0 & 0.900 [0.850, 0.950] & x|y \\\\" in seen["latex"]
    assert seen["latex"].startswith("\\begin{tabular}{lrrl}")
    # What has no value stays last in both directions.
    assert [name[4] for name in seen["down"]] == ["2", "0", "1"]
    assert [name[4] for name in seen["up"]] == ["0", "2", "1"]
    assert seen["commands"] == "make demo\nls -l"


def test_a_path_is_copied_by_keyboard_from_a_file(tmp_path: Path) -> None:
    picture = Picture(
        thumbnail(np.zeros((20, 30, 3), np.uint8)), "b.png", ["p = 0.9"], path='a/"b".png'
    )
    (tmp_path / "g.html").write_text(Page("t", "s", [Section("h", [Gallery([picture])])]).html())

    async def press(tab: Tab) -> list[Any]:
        await tab.open(tmp_path / "g.html", 390)
        await tab.key("Tab")
        focused = await tab.value("document.activeElement.getAttribute('aria-label')")
        await tab.key("Enter")
        wait = "new Promise(r => setTimeout(() => r(document.activeElement.dataset.copied), 300))"
        return [focused, await tab.value(wait), tab.complaints]

    assert visit(press) == ['Copy the path a/"b".png', 'a/"b".png', []]
