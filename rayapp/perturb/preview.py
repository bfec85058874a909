"""A contact sheet of perturbed images beside what they were made from."""

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rayapp.dataset import manifest
from rayapp.dataset.images import decode
from rayapp.storage.store import Store
from rayapp.transforms.sheet import contact_sheet

PREVIEW = "preview.png"


def write_preview(root: Store, output: Store, whole: pa.Table, most: int) -> str:
    """Write `preview.png` of at most so many images, spread evenly over the manifest; its URI."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    sources = whole["source_id"].to_pylist()
    statuses = whole["status"].to_pylist()
    good = dict.fromkeys(
        s for s, t in zip(sources, statuses, strict=True) if t == manifest.STATUS_OK
    )
    names = list(good)
    chosen = {names[at * len(names) // most] for at in range(most)} if names else set()
    for at, (source, status) in enumerate(zip(sources, statuses, strict=True)):
        if source in chosen and status == manifest.STATUS_OK:
            by_source.setdefault(source, []).append(whole.slice(at, 1).to_pylist()[0])
    rows = [(source, _images(root, output, made)) for source, made in by_source.items()]
    sink = io.BytesIO()
    contact_sheet(rows).save(sink, "PNG")
    output.put(PREVIEW, sink.getvalue())
    return output.uri(PREVIEW)


def _images(root: Store, output: Store, made: Sequence[dict[str, Any]]) -> list[tuple[str, Any]]:
    source = decode(root.get(made[0]["source_path"])).pixels_HWC
    images = [(f"source {source.shape[0]}x{source.shape[1]}", source)]
    for row in made:
        caption = f"{row['variant']}: {_format(row['plan'])}"
        images.append((caption, decode(output.get(row["path"])).pixels_HWC))
    return images


def _format(plan: str) -> str:
    """`crop 300x300, resize 256x256, jpeg 80`: a plan in brief; the sheet's font has no ×."""
    return ", ".join(_step(**step) for step in json.loads(plan)) or "as it is"


def _step(op: str, **params: Any) -> str:
    if "height" in params:
        return f"{op} {params['height']}x{params['width']}"
    shown = [f"{value:g}" for key, value in params.items() if key in _SHOWN]
    return " ".join([op, *shown])


_SHOWN = frozenset({"quality", "kernel", "variance", "turns"})
