"""The fields themselves in which a file declares something, for a person who wants to see them.

Each is cut after some characters, and there are at most so many: files can hold megabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rayapp.dataset.declared import field_reader
from rayapp.dataset.declared.chunks import chunks
from rayapp.dataset.declared.credentials import NO_LIST, TrustList, manifest_report
from rayapp.dataset.declared.declaration import one_line
from rayapp.dataset.formats import starts_as

_MOST, _MOST_OF_A_PART, _MOST_TEXT = 200, 80, 400
# Bytes that say nothing to a person: hashes, keys and pictures of what went into a picture.
_STATUS = "validation_status"
_UNTOLD = frozenset(
    {
        *("hash", "pad", "pad1", "pad2", "thumbnail", "signature", "alg"),
        *("@context", "@type", "proof", "credential", "com.adobe.icon"),
    }
)


@dataclass(frozen=True)
class RawField:
    """One field: in which part of the file, its name, its text in one line."""

    where: str
    name: str
    text: str


def raw_fields(data: bytes, trust: TrustList = NO_LIST) -> list[RawField]:
    """What the metadata of an image file holds, part by part; arguments as of `read_declared`."""
    return list(islice(_each(data, trust), _MOST))


def _each(data: bytes, trust: TrustList) -> Iterator[RawField]:
    reported = False
    for part in chunks(data):
        if part.kind == "c2pa":
            if not reported:  # the report is of all manifests
                kind, reported = starts_as(data[:32]), True
                found = _of_report(manifest_report(data, kind, part.data, trust))
                for name, text in islice(found, _MOST_OF_A_PART):
                    yield RawField(part.where, name, text)
        elif part.kind == "text":
            yield RawField(part.where, part.key, _shown(part.data.decode("utf-8", "replace")))
        else:
            fields = field_reader(part.kind)(part.data)
            for name, text in islice(fields.items(), _MOST_OF_A_PART):
                yield RawField(part.where, name, _shown(text))


def _of_report(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The active manifest's fields first, then what the library found, then other manifests'."""
    manifests, label = report.get("manifests") or {}, report.get("active_manifest")
    yield from _leaves(manifests.get(label))
    yield from _leaves({name: report.get(name) for name in ("validation_state", _STATUS)})
    others = [one for name, one in manifests.items() if name != label]
    for number, manifest in enumerate(others, 2):
        yield from _leaves(manifest, f"manifest {number}")


def _shown(value: object) -> str:
    return one_line(str(value), _MOST_TEXT)


def _leaves(value: Any, name: str = "", depth: int = 12) -> Iterator[tuple[str, str]]:
    """Name (`a.b.0.c`) and text of each value within; what is no text for people is left out."""
    if isinstance(value, dict | list) and depth:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if str(key) not in _UNTOLD:
                yield from _leaves(inner, f"{name}.{key}" if name else str(key), depth - 1)
    elif value not in (None, "", b"") and not isinstance(value, bytes | dict | list):
        yield name, _shown(value)
