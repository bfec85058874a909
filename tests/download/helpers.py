"""What the download's tests share: archives made in memory, and a run without Ray."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rayapp.dataset.labels import load_scheme
from rayapp.download import ledger, wanted
from rayapp.download.fetch_task import Worker
from rayapp.download.origins.access import Access
from rayapp.download.origins.catalogue import Catalogue
from rayapp.download.origins.faults import Fault
from rayapp.download.origins.reader import Patience, Plain
from rayapp.download.origins.transport import HttpReader, new_pool
from rayapp.download.source_plan import Planner, SourcePlan
from rayapp.storage.uris import open_store

FAST = Patience(attempts=6, base_s=0.001, cap_s=0.01, connect_s=5.0, silence_s=5.0)
SCHEME = load_scheme("imaginet")
REAL_PHOTO = "0,0,4,8"


@lru_cache(maxsize=4096)
def jpeg(seed: int, side: int = 24) -> bytes:
    """A small noisy JPEG."""
    return _image(seed, side, "JPEG")


@lru_cache(maxsize=256)
def png(seed: int, side: int = 24) -> bytes:
    """A small noisy PNG."""
    return _image(seed, side, "PNG")


def _image(seed: int, side: int, kind: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def make_zip(
    members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    """A ZIP of the members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = comment
    return out.getvalue()


def photos(count: int, folder: str = "train2017") -> dict[str, bytes]:
    """`count` JPEGs by path."""
    return {f"{folder}/{i:06}.jpg": jpeg(i) for i in range(count)}


def http(url: str, patience: Patience = FAST) -> HttpReader:
    """A reader of a plain URL."""
    return HttpReader("object", Plain(url), new_pool(8), patience=patience)


def catalogue(source: Mapping[str, Any], **origins: Mapping[str, Any]) -> Catalogue:
    """A catalogue with one source named `it`."""
    entry = {"about": "a test", "paths": {"train2017/": "train2017/"}, "licence": "L", **source}
    return Catalogue.model_validate({"origins": origins, "sources": {"it": entry}})


def write_list(path: Path, names: Iterable[str], labels: str = REAL_PHOTO) -> str:
    """An annotation list."""
    path.write_text("".join(f"./{name},{labels}\n" for name in names), encoding="utf-8")
    return str(path)


class Run:
    """One source planned and fetched in this process; `run()` again is the same command again."""

    def __init__(self, root: str | Path, book: Catalogue, names: Iterable[str], tmp: Path):
        self.store = open_store(str(root))
        self.book = book
        names = list(names)  # none: the source says itself what it has
        self.lists = [write_list(tmp / "list.txt", names)] if names else []
        self.access = Access(book, patience=FAST)
        self.fatal = ""

    def plan(self) -> SourcePlan:
        """Cut the list up and plan."""
        sources = self.book.sources
        wanted.cut_up(self.store, self.lists, SCHEME, sources)
        planner = Planner(self.store, self.access, SCHEME, "it", sources["it"])
        return planner.make(None)

    def run(self) -> dict[str, dict[str, Any]]:
        """Plan and do all tasks; returns path → ledger row."""
        return self._fetch(self.plan())

    def run_or_name(self) -> dict[str, dict[str, Any]]:
        """As the job does it: where planning fails, all that is left is named for that reason."""
        try:
            plan = self.plan()
        except Fault as fault:
            planner = Planner(self.store, self.access, SCHEME, "it", self.book.sources["it"])
            plan = planner.give_up(None, fault.reason)
        return self._fetch(plan)

    def _fetch(self, plan: SourcePlan) -> dict[str, dict[str, Any]]:
        worker = Worker(self.store, self.access, SCHEME, self.book.sources, 8)
        for task in plan.tasks:
            for done in worker.run(task):
                self.fatal = self.fatal or done.fatal
        return ledger.best_rows(self.store, "it")


def statuses(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Path → '' when it is good, else the reason."""
    return {path: row["error"] if row["status"] != "ok" else "" for path, row in rows.items()}
