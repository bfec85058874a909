"""A detector as the service has it: it scores by predict's own row work, and judges as predict."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from rayapp.config.settings import Settings
from rayapp.dataset.declared import read_trust_list
from rayapp.dataset.images import decode
from rayapp.dataset.labels import item_id
from rayapp.dataset.manifest import STATUS_FAILED
from rayapp.jobs.predict_subject import load_subject
from rayapp.models.delivered import Deliveries
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.predict.sharing import ON_GPU
from rayapp.run.concurrency import batches
from rayapp.serve.answers import answer_rows, card, map_answer
from rayapp.serve.score_contract import Row, Scored, ScoreOptions, SentImage
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import read_uri

_MOST_ON_CPU = 16
_SENT = "sent"  # a row whose bytes come with it lies in no file
_LATE = "not begun: the time of its request was over"


class DetectorOrder(Settings):
    """What a replica loads: a detector, and how it computes."""

    name: str = Field(description="by which requests ask for it")
    uri: str = Field(description="its folder, as predict takes it")
    state: str = Field("", description="digest of what is there; another says: load it anew")
    bf16: bool = Field(False, description="compute in bf16")
    batch_size: int | None = Field(None, description="views of a forward pass")
    threads: int = Field(1, description="CPU threads of a forward pass")
    gpus: float = Field(0.0, description="GPUs of a replica")
    trust_list: str | None = Field(None, description="certificates (PEM) of signers")

    @property
    def side_by_side(self) -> int:
        """Batches under way at once."""
        return ON_GPU if self.gpus else 1


@dataclass(frozen=True)
class ImageOrder:
    """An image to be scored, by when (seconds since 1970), and whether its deliveries are too."""

    image: SentImage
    is_firm: bool
    expires: float


class ServedDetector:
    """One detector, loaded."""

    def __init__(self, order: DetectorOrder) -> None:
        self.order = order
        self._subject = load_subject(order.uri)
        self.card = card(
            order.name, self._subject.hash, self._subject.judge, self._subject.detector
        )
        spec = ScorerSpec(
            self._subject.own or order.uri,
            bf16=order.bf16,
            at_once=order.batch_size,
            gpus=order.gpus,
        )
        if self._subject.detector:
            self._subject.detector.to(spec.device)
        trust = read_trust_list(order.trust_list, read_uri)
        side_by_side, nowhere = order.side_by_side, LocalStore(os.devnull)
        self._plain = PredictRows(spec, nowhere, order.threads, None, trust, side_by_side)
        self._plain.setup()
        self._firm = copy.copy(self._plain)
        self._firm.deliveries = Deliveries.load()

    @property
    def at_once(self) -> int:
        """Images of a batch: as many as a forward pass takes, as measured; on a CPU not many.

        There more gain nothing, all wait for the last one, and each number of images makes torch
        keep memory of its own.
        """
        return self._plain.at_once if self.order.gpus else min(self._plain.at_once, _MOST_ON_CPU)

    def rows(self, asked: Sequence[ImageOrder]) -> list[Row]:
        """One row an image, of whatever requests; what comes too late is not begun."""
        found: dict[int, Row] = {}
        now = time.time()
        for work in (self._plain, self._firm):
            mine = [
                _row(number, one.image)
                for number, one in enumerate(asked)
                if one.is_firm == (work is self._firm) and one.expires > now and not one.image.error
            ]
            if mine:
                for some in batches(work, mine, len(mine)):
                    found |= {row["row"]: row for row in some}
        return [
            found.get(at)
            or {**_row(at, one.image), "status": STATUS_FAILED, "error": one.image.error or _LATE}
            for at, one in enumerate(asked)
        ]

    def answers(
        self, rows: Sequence[Row], images: Sequence[SentImage], options: ScoreOptions
    ) -> Scored:
        """The answer to a request, of its images' rows."""
        answers = answer_rows(rows, [one.name for one in images], self._subject.judge)
        if options.map and self.card["has_map"]:
            for answer, image in zip(answers, images, strict=True):
                answer["map"] = self._map(image.data) if answer["verdict"] else None
        return Scored(self.card, answers)

    def orders(
        self, images: Sequence[SentImage], options: ScoreOptions, seconds: float
    ) -> list[ImageOrder]:
        """What is to be scored for a request, within so many seconds from now."""
        expires = time.time() + seconds
        return [ImageOrder(one, options.stability != "none", expires) for one in images]

    def score(self, images: Sequence[SentImage], options: ScoreOptions, seconds: float) -> Scored:
        """The answer to a request, all here and now."""
        return self.answers(self.rows(self.orders(images, options, seconds)), images, options)

    def _map(self, data: bytes) -> Row | None:
        assert self._subject.detector is not None
        try:
            pixels_HWC = decode(data).pixels_HWC
            found = self._subject.detector.evidence(pixels_HWC)
        except Exception:  # noqa: BLE001 - the verdict stands without its map, whatever the cause
            return None
        return map_answer(found, self._subject.detector, pixels_HWC.shape[:2])


def _row(number: int, image: SentImage) -> dict[str, Any]:
    """As predict has it of a file of that name."""
    return {
        "id": item_id(image.name),
        "path": image.name,
        "row": number,
        "container": _SENT,
        "data": image.data,
        "variant": None,
    }
