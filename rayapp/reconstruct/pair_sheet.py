"""A contact sheet of pairs: the real image, its partner, and how they differ."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rayapp.dataset import manifest
from rayapp.dataset.images import pixels_of
from rayapp.reconstruct.pair_rows import PARTNER, REAL
from rayapp.storage.store import Store
from rayapp.transforms.operations import ImageHWC
from rayapp.transforms.sheet import contact_sheet

PREVIEW = "preview.png"
_CELL = 256  # px of a side shown; an image no larger is shown as it is
TIMES = 20  # what a difference is multiplied by, about mid-grey


def write_preview(output: Store, whole: pa.Table, most: int) -> str:
    """Write `preview.png` of at most so many pairs, spread evenly over the manifest; its URI."""
    rows = [row for row in whole.to_pylist() if row["status"] == manifest.STATUS_OK]
    partners = [row for row in rows if row["origin"]]
    most = min(most, len(partners))
    chosen = [partners[at * len(partners) // most] for at in range(most)]
    reals = {row["source_id"]: row for row in rows if not row["origin"]}
    drawn: list[tuple[str, Sequence[tuple[str, ImageHWC]]]] = []
    for row in chosen:
        real_HWC = pixels_of(output.get(reals[row["source_id"]]["path"]))
        partner_HWC = pixels_of(output.get(row["path"]))
        images = [
            (REAL, real_HWC),
            (f"{PARTNER}: {_said(row['plan'])}", partner_HWC),
            (f"difference x {TIMES}", difference(real_HWC, partner_HWC)),
        ]
        drawn.append((row["source_id"], images))
    sink = io.BytesIO()
    contact_sheet(drawn, cell=_CELL).save(sink, "PNG")
    output.put(PREVIEW, sink.getvalue())
    return output.uri(PREVIEW)


def difference(real_HWC: ImageHWC, partner_HWC: ImageHWC) -> ImageHWC:
    """Partner less real, TIMES as large, about mid-grey."""
    levels = (partner_HWC.astype(np.int32) - real_HWC) * TIMES + 128
    clipped: ImageHWC = np.clip(levels, 0, 255).astype(np.uint8)
    return clipped


def _said(plan: str) -> str:
    """The plan's steps by name; the sheet's font has no other letters."""
    return ", ".join(step["op"] for step in json.loads(plan)) or "as it came"
