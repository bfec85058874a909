"""What a visitor of the service's page does, and where the page shows what."""

import asyncio
from pathlib import Path

from PIL import Image

from tests.pages.browser import Tab
from tests.pictures import photographed

NUM = 20
RESULTS = "[...document.querySelectorAll('.result')]"
NAMES = f"{RESULTS}.map(one => one.querySelector('.name').textContent)"
VERDICTS = f"{RESULTS}.map(one => one.querySelector('.verdict').textContent)"
STATES = f"{RESULTS}.map(one => one.querySelector('.state').textContent)"
FOCUS = "document.activeElement.{}"
SAID = "document.querySelector('.said').textContent"


def pictures(folder: Path, count: int) -> list[Path]:
    """So many photographs, with names that are no trouble only where they are text."""
    made = []
    for at in range(count):
        name = f"{at:02d}, <b>{'real' if at % 2 else 'made'}</b>.png".replace("/", "_")
        Image.fromarray(photographed(160, 220, at)).save(folder / name)
        made.append(folder / name)
    return made


async def settled(tab: Tab, count: int) -> None:
    """Until so many images have been answered, and that was said."""
    left = f"{RESULTS}.length < {count} || !!document.querySelector('[aria-busy=true]')"
    for _ in range(600):
        if not await tab.value(left):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)


async def tab_to(tab: Tab, name: str, shift: bool = False) -> None:
    """Press Tab until the control of that name has the focus."""
    for _ in range(80):
        if await tab.value(FOCUS.format("name")) == name:
            return
        await tab.key("Tab", shift)
    raise AssertionError(f"{name} cannot be reached")
