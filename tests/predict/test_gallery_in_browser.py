"""The gallery as a reviewer meets it: by keyboard alone, thousands at once, on a phone."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset import manifest, scores
from rayapp.dataset.labels import Item, load_scheme, read_list
from rayapp.dataset.marks import read_marks
from rayapp.models.verdicts import Judge
from rayapp.pages.blocks import Overlay
from rayapp.pages.page import Page, Section
from rayapp.pages.review import Card, HeatMap, Review
from rayapp.pages.thumbnails import thumbnail
from rayapp.predict.gallery import Gallerist, Missed
from rayapp.predict.gallery_selection import GallerySelection
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, saved_scores, tiny_detector
from tests.pages.browser import CHROMIUM, Tab, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
NUM = 50
CURRENT = "document.activeElement.dataset.path"
FIRST_PAINT_S = 2.5


def gallery(folder: Path, logits: np.ndarray, first_version: str = "1") -> Path:
    """A gallery of so many pictures, each with the file itself behind it."""
    rng = np.random.default_rng(0)
    rows = []
    for at, logit in enumerate(logits):
        name = f"{at:03d}, {'real' if at % 2 else 'made'}.png"
        pixels = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        row = {"id": name, "path": name, "logit": logit, "status": "ok", "error": ""}
        rows.append({**row, "etag": "1" if at else first_version})
    selection = GallerySelection(Judge("centre-32"), len(rows))
    selection.add(manifest.from_rows(rows, scores.schema()))
    store = open_store(folder)
    gallerist = Gallerist(store.get, address=lambda path: (folder / path).as_uri())
    html = gallerist.page(selection, {"detector": "d"}, Missed()).html()
    (folder / "gallery.html").write_text(html, encoding="utf-8")
    return folder / "gallery.html"


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Fifty cards marked by keyboard alone, as their names say; what the page then held."""
    folder = tmp_path_factory.mktemp("marked")
    logits = np.random.default_rng(1).normal(0, 2, NUM)
    page = gallery(folder, logits)

    async def work(tab: Tab) -> dict[str, Any]:
        await tab.open(page, 1280)
        for _ in range(20):
            if await tab.value(CURRENT) is None:
                await tab.key("Tab")
        order = []
        for _ in range(NUM):
            path = await tab.value(CURRENT)
            order.append(path)
            await tab.key("r" if "real" in path else "s")
        await tab.key("u")  # the last card again
        await tab.key("r" if "real" in order[-1] else "s")
        before = await tab.value("document.querySelector('.marks .count').textContent")
        await tab.open(page, 1280)  # again: the marks are kept
        return {
            "order": order,
            "said": [before, await tab.value("document.querySelector('.count').textContent")],
            "list": await tab.value("review.list()"),
            "table": await tab.value("review.table()"),
            "complaints": tab.complaints,
            "folder": folder,
            "logits": logits,
        }

    return visit(work)


def test_fifty_cards_are_marked_by_keyboard_alone(marked: dict[str, Any]) -> None:
    assert sorted(marked["order"]) == sorted(line.rsplit(",", 1)[0] for line in marked["list"])
    assert marked["said"] == ["50 marked: 25 synthetic, 25 real, 0 unclear."] * 2
    assert {line.endswith(",0") for line in marked["list"] if "real" in line} == {True}
    assert {line.endswith(",1") for line in marked["list"] if "made" in line} == {True}
    assert marked["table"][1].startswith('"')  # names with commas are quoted
    assert marked["complaints"] == []


def test_calibrate_reads_the_marks(marked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "reviewed.csv").write_text("\n".join(marked["list"]) + "\n", encoding="utf-8")
    listed = read_list(str(tmp_path / "reviewed.csv"), load_scheme("reviewed"))
    assert listed.defects == []
    assert sum(listed.column("origin")) == NUM // 2
    names = sorted(path.name for path in marked["folder"].glob("*.png"))
    items = [Item(name, name, (0,)) for name in names]
    run = calibrate(
        CalibrateSettings(
            detector=saved_detector(tmp_path / "detector"),
            scores=(
                saved_scores(
                    tmp_path / "s",
                    tiny_detector(),
                    items,
                    marked["logits"],
                    load_scheme("reviewed"),
                ),
            ),
            annotations=str(tmp_path / "reviewed.csv"),
            scheme="reviewed",
            output=str(tmp_path / "calibrated"),
        )
    )
    assert run.counts["in"] == NUM


def test_calibrate_weighs_all_marks_by_how_they_were_chosen(
    marked: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "marks.csv").write_text("\n".join(marked["table"]) + "\n", encoding="utf-8")
    found = read_marks([str(tmp_path / "marks.csv")])
    assert found.counts == (NUM // 2, NUM // 2)
    assert set(found.weights.values()) == {1.0}  # all were shown
    assert found.warnings == ()


def test_marks_outlive_a_page_that_is_made_anew(tmp_path: Path) -> None:
    """Such as that of a followed folder: one image more, another one in the place of the first."""
    logits = np.arange(5.0)

    async def work(tab: Tab) -> list[str]:
        await tab.open(gallery(tmp_path, logits[:4]), 1280)
        for _ in range(20):
            if await tab.value(CURRENT) is None:
                await tab.key("Tab")
        for _ in range(4):
            await tab.key("s")
        await tab.open(gallery(tmp_path, logits, first_version="2"), 1280)
        found: list[str] = await tab.value("review.list()")
        said = await tab.value("document.querySelector('.count').textContent")
        return [said, *found]

    said, *found = visit(work)
    assert said == "3 marked: 3 synthetic, 0 real, 0 unclear."
    assert sorted(found) == ["001, real.png,1", "002, made.png,1", "003, real.png,1"]


def test_five_thousand_cards_are_painted_at_once_and_stay_few(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        thumbnail(rng.integers(0, 255, (240, 240, 3), dtype=np.uint8), 240) for _ in range(20)
    ]  # noise: larger than any photograph's
    cards = [
        Card(f"folder/{at:05d}.jpg", pictures[at % 20], "synthetic", "surest synthetic", 0.9)
        for at in range(5000)
    ]
    page = tmp_path / "gallery.html"
    page.write_text(Page("Scores", "", [Section("Images", [Review(cards, "k")])]).html())

    async def work(tab: Tab) -> dict[str, Any]:
        await tab.open(page, 1280)
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
        steps = """(async () => {
          const items = () => document.querySelectorAll('.item').length, found = [];
          for (let k = 0; k <= 40; k++) {
            const top = k * document.documentElement.scrollHeight / 40;
            scrollTo({ top, behavior: "instant" });
            await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
            found.push(items());
          }
          return found;
        })()"""
        return {
            "first_paint_s": await tab.value(paint),
            "steps": await tab.value(steps),
            "last": await tab.value("[...document.querySelectorAll('.item')].at(-1).dataset.path"),
            "complaints": tab.complaints,
        }

    seen = visit(work)
    assert seen["first_paint_s"] <= FIRST_PAINT_S
    assert 0 < min(seen["steps"]) <= max(seen["steps"]) <= 60
    assert seen["last"] == "folder/04999.jpg"
    assert seen["complaints"] == []
    assert page.stat().st_size > 100e6  # more than a gallery of photographs weighs


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_large_view_shows_the_file_its_pixels_and_its_map(
    tmp_path: Path, width: int, scheme: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    card = Card(
        "a.png",
        thumbnail(pixels),
        "unsure",
        "unsure",
        0.5,
        lines=["detectors disagree"],
        facts={"declared by": "Make: Canon"},
        source=(tmp_path / "a.png").as_uri(),
        overlay=Overlay(600, 800, [(0.25, 0.25, 0.75, 0.75)]),
        heat_map=HeatMap(2, 3, [0.0, 0.1, 0.2, 0.7, 0.9, 1.0]),
    )
    gone = Card(
        "b.png", card.thumbnail, "real", "surest real", 0.1, source=(tmp_path / "b").as_uri()
    )
    page = tmp_path / "page.html"
    page.write_text(Page("S", "", [Section("Images", [Review([card, gone], "k")])]).html())

    async def work(tab: Tab) -> dict[str, Any]:
        await tab.open(page, width, scheme)
        await tab.value("document.querySelector('.item .frame').click()")
        natural = "document.querySelector('.sheet img').naturalWidth"
        for _ in range(100):
            if await tab.value(natural) == 800:
                break
            await asyncio.sleep(0.05)
        seen: dict[str, Any] = {"natural": await tab.value(natural)}
        shown = "document.querySelector('.sheet img').getBoundingClientRect().width"
        seen["widths"] = []
        for _ in range(3):
            seen["widths"].append(await tab.value(shown))
            await tab.key("z")
        await tab.key("m")
        seen["map"] = await tab.value(
            "(canvas => [canvas.hidden, canvas.width, canvas.height, ...[[0, 0], [2, 1]].map("
            "(at) => canvas.getContext('2d').getImageData(...at, 1, 1).data[3])])"
            "(document.querySelector('.sheet canvas'))"
        )
        seen["text"] = await tab.value("document.querySelector('dialog').innerText")
        await tab.key("ArrowRight")
        await asyncio.sleep(0.3)
        seen["second"] = await tab.value("document.querySelector('dialog').innerText")
        await tab.key("Escape")
        await asyncio.sleep(0.3)  # a dialog tells a moment later that it was closed
        seen["focus"] = await tab.value(CURRENT)
        seen["wide"] = await tab.value("document.documentElement.scrollWidth")
        return seen

    seen = visit(work)
    assert seen["natural"] == 800  # the file, not its thumbnail
    assert seen["widths"][1:] == [800, 3200]
    assert seen["widths"][0] <= 800
    assert seen["map"] == [False, 3, 2, 0, 225]  # clear at 0, full at 1
    assert "detectors disagree" in seen["text"]
    assert "Make: Canon" in seen["text"]
    assert "Only the thumbnail can be shown here." in seen["second"]
    assert seen["focus"] == "b.png"
    assert seen["wide"] <= width
