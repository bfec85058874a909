"""What an image file says of its own origin, beside and never inside a detector's score.

Read are C2PA manifests, IPTC's digital source type, the settings that generators leave, and the
camera or program that EXIF names; each from the part of the file where it belongs. A file that
declares nothing is not real: most services remove all of it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from rayapp.dataset.declared.chunks import Chunk, chunks
from rayapp.dataset.declared.credentials import NO_LIST, TrustList, of_manifest, read_trust_list
from rayapp.dataset.declared.declaration import (
    CAMERA,
    UNSIGNED,
    UNVERIFIED,
    Declaration,
    Declared,
    one_line,
)
from rayapp.dataset.declared.fields import Fields, exif_fields, iptc_fields, xmp_fields
from rayapp.dataset.declared.texts import of_fields, of_texts
from rayapp.dataset.declared.vocabulary import program
from rayapp.dataset.formats import starts_as

__all__ = [
    "NO_LIST",
    "Declaration",
    "Declared",
    "TrustList",
    "declared_of",
    "read_declared",
    "read_trust_list",
]

_MOST_OF_A_KIND, _MOST_TEXTS = 8, 128  # parts of a file that are looked at
_EXPOSURE = {"ExposureTime", "FNumber", "ISO", "ISOSpeedRatings", "FocalLength"}


def read_declared(data: bytes, trust: TrustList = NO_LIST, *, hidden: bool = False) -> Declared:
    """What the bytes of an image file declare; nothing of what is no image.

    Args:
        data: the file.
        trust: certificates to which a C2PA signer's must lead to count as verified.
        hidden: read also what generators hide in pixels, which takes decoding the image.
    """
    found: list[Declaration] = []
    notes: list[str] = []
    texts: list[tuple[str, str, str]] = []
    seen: dict[str, int] = {}
    for part in chunks(data):
        seen[part.kind] = seen.get(part.kind, 0) + 1
        if part.kind == "text" and len(texts) < _MOST_TEXTS:
            texts.append((part.key, part.where, part.data.decode("utf-8", "replace")))
        elif part.kind == "text" or seen[part.kind] > _MOST_OF_A_KIND:
            continue
        elif part.kind == "c2pa":
            kind = starts_as(data[:32])
            found.append(of_manifest(data, kind, part.where, part.data, trust))
        else:
            fields = field_reader(part.kind)(part.data)
            found += of_fields(part.where, fields)
            found += _camera(part, fields)
            notes += _elsewhere(fields)
    found += of_texts(texts)
    if hidden:
        from rayapp.dataset.declared.hidden import of_pixels  # here: decoding takes more imports

        found += of_pixels(data)
    return Declared.of(dict.fromkeys(found), notes if "c2pa" not in seen else ())


def declared_of(image: object, trust: TrustList = NO_LIST) -> Declared:
    """What the file of an image declares, given as path or bytes; of pixels alone nothing is known.

    A file that can't be read declares nothing here: it is named where its pixels are wanted.
    """
    if isinstance(image, (str, Path)):
        try:
            image = Path(image).read_bytes()
        except OSError:
            return Declared()
    return read_declared(image, trust) if isinstance(image, bytes) else Declared()


def field_reader(kind: str) -> Callable[[bytes], Fields]:
    """What reads the fields of a part of that kind: EXIF, XMP or IPTC."""
    return {"exif": exif_fields, "xmp": xmp_fields, "iptc": iptc_fields}[kind]


def _camera(part: Chunk, fields: Fields) -> Iterator[Declaration]:
    """Of EXIF, or XMP that repeats it, that names a camera by its maker."""
    make, model = fields.get("Make", ""), fields.get("Model", "")
    # ComfyUI keeps its graphs there, and generators their name.
    if not make or ":{" in make + model or program(make):
        return
    exposure = "with exposure" if _EXPOSURE & fields.keys() else "without exposure"
    name = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    detail = f"{part.where}: {one_line(name, 80)}, {exposure} ({UNSIGNED})"
    yield Declaration(CAMERA, "EXIF of a camera", part.where, UNVERIFIED, detail)


def _elsewhere(fields: Fields) -> Iterator[str]:
    """A manifest that is kept on some server: it is not asked, and says nothing here."""
    uri = fields.get("provenance", "")
    if uri.startswith(("http://", "https://")):
        yield f"names a C2PA manifest at {one_line(uri, 80)}, which is not fetched"
