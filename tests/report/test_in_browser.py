"""A report of three detectors on 40,000 images each, as a reader meets it."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.jobs.report import REPORT_FILE, report
from rayapp.report.settings import ReportSettings
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, saved_scores, tiny_detector
from tests.pages.browser import BROKEN_WORDS, CHROMIUM, Tab, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
SCHEME = load_scheme("imaginet")
NUM = 40_000
OPEN_S = 3.0
COPY = """(async () => {{
  const button = [...document.querySelectorAll('[data-copy="{}"]')][{}];
  button.click();
  for (let k = 0; k < 100 && !button.dataset.copied; k++)
    await new Promise((r) => setTimeout(r, 20));
  return button.dataset.copied;
}})()"""


def items() -> list[Item]:
    found = []
    for k in range(NUM):
        model = k // 2 % 8
        group = 0 if model < 3 else 1 if model < 6 else model - 4
        labels = (0, k % 4, 4, 8) if k % 2 else (1, k % 4, group, model)
        found.append(Item(f"testset/{k:05d}.webp", f"testset/{k:05d}.webp", labels))
    return found


@pytest.fixture(scope="module")
def page(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    rows = items()
    write_list(open_store(folder), "test.txt", rows, SCHEME)
    origins = np.array([item.labels[0] for item in rows])
    picture = folder / "picture"
    pixels = np.random.default_rng(9).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture, "JPEG", quality=90)
    detectors, scores = [], []
    for seed, gap in enumerate((2.5, 2.3, 1.5)):
        logits = np.random.default_rng(seed).normal(gap * origins, 1)
        detectors.append(saved_detector(folder / f"detector {seed}", seed))
        images = folder / f"scores{seed}" / "testset"
        images.mkdir(parents=True)
        for item in rows:  # one file under 40,000 names
            os.symlink(picture, images / item.path.rpartition("/")[2])
        scores.append(
            saved_scores(folder / f"scores{seed}", tiny_detector(seed), rows, logits, SCHEME)
        )
    run = evaluate(
        EvaluateSettings(
            detector=tuple(detectors),
            scores=tuple(scores),
            annotations=str(folder / "test.txt"),
            resamples=100,
            output=str(folder / "evaluation"),
        ),
        command="python jobs/evaluate.py",
    )
    made = report(ReportSettings(evaluations=run.store.root, output=str(folder / "report")))
    return Path(made.store.root, REPORT_FILE)


@pytest.mark.parametrize("width", [1440, 390])
def test_opens_within_seconds_without_complaint(page: Path, width: int):
    async def look(tab: Tab) -> dict[str, Any]:
        start = time.perf_counter()
        await tab.open(page, width)
        undrawn = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        seen = {"undrawn": await tab.value(undrawn), "seconds": time.perf_counter() - start}
        seen["pictures"] = await tab.value("document.images.length")
        seen["wide"] = await tab.value("document.documentElement.scrollWidth")
        seen["broken"] = await tab.value(BROKEN_WORDS)
        return seen | {"complaints": tab.complaints}

    seen = visit(look)
    print(f"{width} px: {seen['seconds']:.2f} s, {page.stat().st_size / 1e6:.1f} MB")
    assert seen["complaints"] == []
    assert seen["undrawn"] == 0
    assert seen["broken"] == []
    assert seen["pictures"] >= 9 + 3 * 24  # and the images of each detector
    assert seen["wide"] <= width
    assert seen["seconds"] <= OPEN_S


def test_every_table_sorts_and_copies_by_click(page: Path):
    async def click(tab: Tab) -> dict[str, Any]:
        await tab.open(page, 1440)
        tables = await tab.value("document.querySelectorAll('.table').length")
        copied = {
            kind: [await tab.value(COPY.format(kind, k)) for k in range(tables)]
            for kind in ("csv", "markdown", "latex")
        }
        numbers = await tab.value("""[...document.querySelectorAll('table')].map((table) => {
          const head = table.querySelector('th.number');
          if (!head) return null;
          head.querySelector('button').click();
          return [...table.tBodies[0].rows]
            .map((r) => r.cells[head.cellIndex].dataset.value)
            .filter((v) => v !== undefined).map(Number);
        })""")
        return {"tables": tables, "copied": copied, "numbers": numbers, "said": tab.complaints}

    seen = visit(click)
    assert seen["tables"] >= 5
    assert seen["said"] == []
    for kind, start in (("csv", ""), ("markdown", "| "), ("latex", "\\begin{tabular}")):
        assert all(text and text.startswith(start) for text in seen["copied"][kind]), kind
    sorted_ = [column for column in seen["numbers"] if column is not None]
    assert len(sorted_) >= 3
    for column in sorted_:
        assert column == sorted(column, reverse=True)
