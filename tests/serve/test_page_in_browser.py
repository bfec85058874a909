"""The service's page as a visitor meets it: dropped files, keyboard alone, refusals, history."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.dataset.marks import read_marks
from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.tokens import Tokens, add_token
from rayapp.serve.settings import Limits
from tests.pages.browser import BROKEN_WORDS, CHROMIUM, Tab, visit
from tests.serve.page_visits import (
    FOCUS,
    NAMES,
    NUM,
    RESULTS,
    SAID,
    STATES,
    VERDICTS,
    pictures,
    settled,
    tab_to,
)
from tests.serve.services import HereScoring, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture
def desk(scoring: HereScoring, tmp_path_factory: pytest.TempPathFactory) -> DeskSettings:
    """Where the service writes what it counts."""
    return DeskSettings(str(tmp_path_factory.mktemp("output")), scoring.uris)


def test_twenty_images_are_dropped(
    scoring: HereScoring, desk: DeskSettings, tmp_path: Path
) -> None:
    files = pictures(tmp_path, NUM)

    async def work(tab: Tab, address: str) -> dict[str, Any]:
        await tab.open(f"{address}/", 1280)
        await tab.drop(files, ".drop")
        await settled(tab, NUM)
        await tab.value("document.querySelector('[name=map]').click()")
        seen = {
            "names": await tab.value(NAMES),
            "verdicts": await tab.value(VERDICTS),
            "sentences": await tab.value(
                f"{RESULTS}.map(one => one.querySelector('.sentence').textContent)"
            ),
            "maps": await tab.value(
                f"{RESULTS}.filter(one => !one.querySelector('canvas').hidden).length"
            ),
            "said": await tab.value(SAID),
        }
        await tab.resize(390, 800)
        seen["wide"] = await tab.value("document.documentElement.scrollWidth")
        seen["broken"] = await tab.value(BROKEN_WORDS)
        return seen | {"complaints": tab.complaints}

    with serving(scoring, desk) as address:
        seen = visit(lambda tab: work(tab, address))
        row = _ask(address, files[0])
    assert seen["names"] == [one.name for one in files]
    assert seen["verdicts"][0] == row["verdict"]
    assert f"{row['probability']:.3f}" in seen["sentences"][0]
    assert set(seen["verdicts"]) <= {f"{w} (uncalibrated)" for w in ("real", "synthetic")} | {
        "unsure"
    }
    assert seen["maps"] == NUM
    assert seen["said"].startswith("Done. 20 images: ")
    assert seen["wide"] <= 390
    assert seen["broken"] == []
    assert seen["complaints"] == []


def _ask(address: str, file: Path) -> dict[str, Any]:
    asked = urllib.request.Request(f"{address}/v1/score", file.read_bytes())
    asked.add_header("Content-Type", "image/png")
    with urllib.request.urlopen(asked) as answer:
        found: dict[str, Any] = json.load(answer)["images"][0]
    return found


def test_by_keyboard_alone(scoring: HereScoring, desk: DeskSettings, tmp_path: Path) -> None:
    files = pictures(tmp_path, NUM)

    async def work(tab: Tab, address: str) -> dict[str, Any]:
        await tab.open(f"{address}/", 1280)
        await tab_to(tab, "choose")
        await tab.choose(files, "Enter")
        await settled(tab, NUM)
        for _ in range(20):
            if (await tab.value(FOCUS.format("className")) or "").startswith("result"):
                break
            await tab.key("Tab")
        for one in files:
            await tab.key("r" if "real" in one.name else "s")
        await tab.key("x")  # the last one again, and back
        await tab.key("r" if "real" in files[-1].name else "s")
        said = await tab.value("document.querySelector('.count').textContent")
        whole = await tab.value("service.table()")
        await tab.key("x")
        part = await tab.value("service.table()")
        await tab.key("r" if "real" in files[-1].name else "s")
        await tab_to(tab, "save", shift=True)
        await tab.open(f"{address}/", 1280)  # again: history and marks are kept
        kept = {"whole": whole, "part": part}
        kept |= {"names": await tab.value(NAMES), "list": await tab.value("service.list()")}
        await tab_to(tab, "clear")
        await tab.value("window.confirm = () => true")
        await tab.key("Enter")
        await asyncio.sleep(0.7)
        left = await tab.value(f"{RESULTS}.length + JSON.stringify({{...sessionStorage}})")
        return kept | {"said": said, "left": left, "complaints": tab.complaints}

    with serving(scoring, desk) as address:
        seen = visit(lambda tab: work(tab, address))
    assert seen["names"] == [one.name for one in files]
    assert seen["said"] == "20 marked: 10 synthetic, 10 real, 0 unclear."
    (tmp_path / "reviewed.csv").write_text("\n".join(seen["list"]) + "\n", encoding="utf-8")
    listed = read_list(str(tmp_path / "reviewed.csv"), load_scheme("reviewed"))
    assert listed.defects == []
    by_name = {one.path: one.labels[0] for one in listed.items}
    assert by_name == {one.name: int("made" in one.name) for one in files}
    assert "png" not in seen["left"]
    (tmp_path / "marks.csv").write_text("\n".join(seen["whole"]) + "\n", encoding="utf-8")
    marks = read_marks([str(tmp_path / "marks.csv")])  # all are marked: a mark is for its image
    assert marks.origins == by_name
    assert set(marks.weights.values()) == {1.0}
    assert len(seen["part"]) == NUM
    (tmp_path / "marks.csv").write_text("\n".join(seen["part"]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="does not say how its images were chosen"):
        read_marks([str(tmp_path / "marks.csv")])
    assert seen["left"].startswith("0")
    assert seen["complaints"] == []


def test_refusals_are_told_and_the_token_asked_for(
    scoring: HereScoring, desk: DeskSettings, tmp_path: Path
) -> None:
    good, broken, large = pictures(tmp_path, 1)[0], tmp_path / "b.jpg", tmp_path / "c.png"
    broken.write_bytes(b"\xff\xd8\xff no image")
    large.write_bytes(bytes(300_000))
    token = add_token(str(tmp_path / "tokens"), "visitor")

    async def give(tab: Tab, text: str) -> None:
        await tab.value(f"document.querySelector('[name=token]').value = '{text}'")
        await tab.key("Enter")
        await asyncio.sleep(1)

    async def work(tab: Tab, address: str) -> dict[str, Any]:
        await tab.open(f"{address}/", 1280)
        await asyncio.sleep(0.5)
        seen: dict[str, Any] = {"asked": await tab.value(FOCUS.format("name"))}
        await give(tab, "wrong")
        seen["why"] = await tab.value("document.querySelector('.why').textContent")
        await give(tab, "no token")
        seen["odd"] = await tab.value("document.querySelector('.why').textContent")
        await give(tab, token)
        seen["open"] = await tab.value("document.querySelector('dialog').open")
        await tab.drop([good, broken, large], ".drop")
        await settled(tab, 3)
        return seen | {"verdicts": await tab.value(VERDICTS), "states": await tab.value(STATES)}

    limits, tokens = Limits(max_mb=0.25), Tokens(str(tmp_path / "tokens"))
    with serving(scoring, desk, limits=limits, tokens=tokens) as address:
        seen = visit(lambda tab: work(tab, address))
    assert seen["asked"] == "token"
    assert "token" in seen["why"]
    assert "no blanks" in seen["odd"]
    assert not seen["open"]
    assert [bool(one) for one in seen["verdicts"]] == [True, False, False]
    assert seen["states"][1].startswith("Could not be judged: ")
    assert "larger than 0.25 MB" in seen["states"][2]


def test_a_busy_service_is_asked_again(
    scoring: HereScoring, desk: DeskSettings, tmp_path: Path
) -> None:
    files = pictures(tmp_path, 5)

    async def work(tab: Tab, address: str) -> tuple[list[str], list[str]]:
        await tab.open(f"{address}/", 390, "dark")
        await tab.drop(files, ".drop")
        await settled(tab, len(files))
        return await tab.value(VERDICTS), [one for one in tab.complaints if "503" in one]

    with serving(scoring, desk, limits=Limits(queue=1)) as address:
        verdicts, refused = visit(lambda tab: work(tab, address))
    assert all(verdicts)
    assert refused  # else nothing was tested
