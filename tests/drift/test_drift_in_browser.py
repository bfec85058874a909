"""The page of drift as a reader meets it: whole on a phone, with nothing fetched."""

from pathlib import Path
from typing import Any

import pytest

from rayapp.drift.differences import compare_days
from rayapp.drift.drift_page import drift_page
from rayapp.drift.known_reals import KnownReals
from rayapp.drift.settings import DriftSettings
from rayapp.drift.sides import read_sides
from rayapp.metrics.traffic_files import write_reference
from rayapp.storage.uris import open_store
from tests.drift.test_drift import classes, drawn, traffic, written
from tests.models.test_verdicts import calibration
from tests.pages.browser import BROKEN_WORDS, CHROMIUM, Tab, visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_the_page_is_whole_on_a_phone(tmp_path: Path) -> None:
    write_reference(open_store(tmp_path / "detector"), classes())
    days = [traffic(drawn(at, 200, 0.1), f"2026-11-{at:02d}") for at in range(10, 20)]
    days.append(traffic(drawn(20, 400, 0.1, up=1.0), "2026-11-20", declared="camera"))
    counts = written(tmp_path / "counts", *days)
    sides = read_sides(
        DriftSettings(counts=counts, against=str(tmp_path / "detector"), output=str(tmp_path / "o"))
    )
    assert sides.other is not None
    found = compare_days(
        sides.day, list(sides.reference.values()), 0, same_decisions=True, other=sides.other.day
    )
    page = drift_page(sides, found, KnownReals(200, 20, 240, 0.02), calibration(), {"a": "b"})
    (tmp_path / "drift.html").write_text(page.html(), encoding="utf-8")

    async def work(tab: Tab) -> dict[str, Any]:
        await tab.open(tmp_path / "drift.html", 390)
        return {
            "wide": await tab.value("document.documentElement.scrollWidth"),
            "broken": await tab.value(BROKEN_WORDS),
            "text": await tab.value("document.body.innerText"),
            "pictures": await tab.value("document.images.length"),
            "complaints": tab.complaints,
        }

    seen = visit(work)
    assert seen["complaints"] == []
    assert seen["wide"] <= 390
    assert seen["broken"] == []
    assert seen["pictures"] == 2
    assert "The promised rate of false positives no longer holds." in seen["text"]
    assert "2026-11-10 to 2026-11-19" in page.html()
