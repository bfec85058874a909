"""The evidence sheet of one picture: a page to hand on, which shows each ground of the verdict."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rayapp.dataset.declared import Declared
from rayapp.dataset.declared.declaration import CAMERA, OF_AI
from rayapp.dataset.declared.raw_fields import RawField
from rayapp.dataset.images import DecodedImage
from rayapp.models.basis import (
    DECLARES_NOTHING,
    DEPENDS,
    MAP_LEGEND,
    NO_MAP,
    NO_PROOF,
    ONE_CELL,
    STANDS,
    UNSIGNED_IS_WEAK,
    verdict_sentence,
)
from rayapp.models.evidence_maps import EvidenceMap
from rayapp.models.firmness import Delivery
from rayapp.models.preprocessing import Box
from rayapp.models.verdicts import REAL, SYNTHETIC, Judgement
from rayapp.pages.blocks import Block, Figure, Figures, KeyValues, Notice, Prose, Table, Value
from rayapp.pages.page import Page, Section

_SIDE = 900
_ORANGE = (255, 110, 0)


@dataclass(frozen=True)
class Evidence:
    """All that is known of one picture.

    Args:
        name: of the file.
        image: its pixels, as a person sees them.
        judgement: of the detector.
        map: where it sees what; None: it cannot say.
        map_p: probabilities of the map's cells.
        seen: the parts of the picture that the verdict rests on.
        deliveries: verdicts on the picture as handed on by others.
        declared: what the file says of itself.
        raw: the fields of the file's metadata.
        file: facts of the file.
        detector: facts of the detector.
        rates: how often the detector errs, in words.
        scope: what it was trained and measured on, in one line.
    """

    name: str
    image: DecodedImage
    judgement: Judgement
    map: EvidenceMap | None
    map_p: np.ndarray | None
    seen: Sequence[Box]
    deliveries: Sequence[Delivery]
    declared: Declared
    raw: Sequence[RawField]
    file: Mapping[str, Value]
    detector: Mapping[str, Value]
    rates: str
    scope: str


def sheet(found: Evidence) -> Page:
    """The page."""
    sections = [
        Section("The picture", _pictures(found)),
        Section("What the verdict rests on", _grounds(found)),
        Section("How firm it is", _firmness(found.judgement, found.deliveries)),
        Section("What the file declares", _declared(found)),
        Section("The file", [KeyValues(found.file)]),
        Section("The detector", [KeyValues(found.detector)]),
        *([Section("The fields of its metadata", _raw(found.raw))] if found.raw else []),
    ]
    return Page(found.name, in_words(found), sections, kicker="Evidence sheet")


def in_words(found: Evidence) -> str:
    """The verdict in a sentence or two, and what speaks against it."""
    parts = [verdict_sentence(found.judgement)]
    if not found.judgement.flips and len({one.verdict for one in found.deliveries}) > 1:
        parts.append("It is less sure of the same picture as others hand it on.")
    declared = found.declared.kind
    if (found.judgement.verdict == REAL and declared in OF_AI) or (
        found.judgement.verdict == SYNTHETIC and declared == CAMERA
    ):
        parts.append(f"But the file declares “{declared}” ({found.declared.by}).")
    return " ".join(parts)


def _pictures(found: Evidence) -> list[Block]:
    whole = Image.fromarray(found.image.pixels_HWC)
    size = f"{found.image.width} × {found.image.height} px"
    shown = whole.copy()
    shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    plain = shown.copy()
    is_part = any(box != (0.0, 0.0, 1.0, 1.0) for box in found.seen)
    if is_part:
        _outline(plain, found.seen)
    looked = " The verdict rests on what is outlined." if is_part else ""
    figures = [Figure(_uri(plain), "The picture", f"The picture, {size}.{looked}")]
    if found.map is None or found.map_p is None:
        return [Figures(figures), Prose(NO_MAP)]
    if found.map.logits_G.size == 1:
        return [Figures(figures), Prose(ONE_CELL)]
    low, high = float(found.map_p.min()), float(found.map_p.max())
    caption = f"Where it sees what, by {found.map.by} (here {low:.3f} to {high:.3f}). {MAP_LEGEND}"
    figures.append(Figure(_uri(_with_map(shown, found.map_p)), "Map over the picture", caption))
    return [Figures(figures)]


def _outline(picture: Image.Image, boxes: Sequence[Box]) -> None:
    draw = ImageDraw.Draw(picture)
    for top, left, bottom, right in boxes:
        x, y = picture.width - 1, picture.height - 1
        edges = (left * x, top * y, right * x, bottom * y)
        draw.rectangle(edges, outline=(0, 0, 0), width=4)
        draw.rectangle(edges, outline=(255, 255, 255), width=2)


def _with_map(picture: Image.Image, map_p: np.ndarray) -> Image.Image:
    """The picture in grey under orange: hardly any up to a probability of 1/2, then ever more."""
    grey = picture.convert("L").convert("RGB")
    strength_G = 30 * map_p + 180 * (2 * map_p - 1).clip(0, 1)
    strength = Image.fromarray(strength_G.clip(0, 255).astype(np.uint8))
    strength = strength.resize(picture.size, Image.Resampling.BILINEAR)
    grey.paste(Image.new("RGB", picture.size, _ORANGE), mask=strength)
    return grey


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _grounds(found: Evidence) -> list[Block]:
    judged = found.judgement
    facts: dict[str, Value] = {
        "verdict": judged.verdict or "none",
        "probability": judged.probability,
        "decides at": judged.threshold,
        "reason": judged.reason or judged.error or "none that limits it",
        "the detector": found.scope,
    }
    return [Notice(f"{NO_PROOF} {found.rates}"), KeyValues(facts)]


def _firmness(judgement: Judgement, deliveries: Sequence[Delivery]) -> list[Block]:
    if not deliveries:
        return [Prose("Not tried: there is no verdict to hold firm.")]
    rows = [(one.name, one.probability, one.verdict) for one in deliveries]
    values = [one.probability for one in deliveries]
    words = {one.verdict for one in deliveries}
    if judgement.flips:
        text = f"{DEPENDS}: {judgement.flips} of {len(deliveries) - 1} deliveries flip it"
    elif len(words) == 1:
        text = STANDS
    else:
        text = "Some deliveries leave the detector unsure; none flips the verdict"
    text += f". Its probability goes from {min(values):.3f} to {max(values):.3f}."
    return [
        Prose(text),
        Table(
            ("delivered", "probability", "verdict"), rows, "The same picture as others hand it on."
        ),
    ]


def _raw(fields: Sequence[RawField]) -> list[Block]:
    """Part by part; a field that a part holds again is numbered."""
    parts: dict[str, dict[str, Value]] = {}
    for one in fields:
        held = parts.setdefault(one.where, {})
        again = sum(name.partition(" (")[0] == one.name for name in held)
        held[f"{one.name} ({again + 1})" if again else one.name] = one.text
    blocks: list[Block] = [Prose("As they are; long ones are cut, keys and hashes left out.")]
    for where, held in parts.items():
        blocks += [Prose(f"{where}:"), KeyValues(held)]
    return blocks


def _declared(found: Evidence) -> list[Block]:
    declared = found.declared
    blocks: list[Block] = []
    if not declared.declarations:
        blocks.append(Prose(DECLARES_NOTHING))
    else:
        rows = [
            (one.kind, one.what, one.where, one.state, one.detail) for one in declared.declarations
        ]
        columns = ("says", "by", "where", "signature", "in its own words")
        blocks.append(Table(columns, rows, "The strongest first."))
        blocks.append(Prose(UNSIGNED_IS_WEAK))
    blocks += [Prose(note) for note in declared.notes]
    return blocks
