"""The structure of a C2PA manifest store: JUMBF boxes (ISO/IEC 19566-5) that hold CBOR and JSON.

Read where no library is there to verify it, and to the same form as c2pa-python gives. Nothing here
checks a signature.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

from rayapp.dataset.declared.boxes import boxes

_MOST_DEPTH = 24
_MOST_VALUES = 50_000
_MOST_BOXES = 4_000
_LABELLED = 2  # of a description box's toggles


class StructureError(ValueError):
    """The bytes are no manifest store that can be read."""


def read_store(data: bytes) -> dict[str, Any]:
    """Manifests by label, and which is the active one, the last.

    Raises:
        StructureError: no manifest store, or a damaged one.
    """
    budget = _Budget(_MOST_BOXES)
    manifests: dict[str, Any] = {}
    for name, start, end in boxes(data):
        if name != b"jumb" or _label(data, start, end) != "c2pa":
            continue
        for inner, at, until in boxes(data, start, end):
            if inner == b"jumb":
                manifests[_label(data, at, until)] = _manifest(data, at, until, budget)
    if not manifests:
        raise StructureError("no manifest in it")
    return {"active_manifest": list(manifests)[-1], "manifests": manifests}


def _manifest(data: bytes, start: int, end: int, budget: "_Budget") -> dict[str, Any]:
    manifest: dict[str, Any] = {"assertions": [], "ingredients": []}
    for label, at, until in _labelled(data, start, end, budget):
        if label.startswith("c2pa.claim"):
            manifest |= _content(data, at, until) or {}
        elif label == "c2pa.assertions":
            for name, from_, to in _labelled(data, at, until, budget):
                found = _content(data, from_, to)
                if name.startswith("c2pa.ingredient") and isinstance(found, dict):
                    manifest["ingredients"].append(_ingredient(found))
                elif isinstance(found, dict):
                    manifest["assertions"].append({"label": name, "data": found})
    return manifest


def _ingredient(found: dict[str, Any]) -> dict[str, Any]:
    link = found.get("activeManifest") or found.get("c2pa_manifest") or {}
    url = link.get("url", "") if isinstance(link, dict) else ""
    parts = str(url).rpartition("jumbf=")[2].strip("/").split("/")
    label = parts[1] if len(parts) > 1 and parts[0] == "c2pa" else ""
    return {"relationship": found.get("relationship"), "active_manifest": label}


class _Budget:
    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StructureError("more in it than any writer puts there")


def _labelled(data: bytes, start: int, end: int, budget: _Budget) -> Iterator[tuple[str, int, int]]:
    for name, at, until in boxes(data, start, end):
        budget.spend()
        if name == b"jumb":
            yield _label(data, at, until), at, until


def _label(data: bytes, start: int, end: int) -> str:
    """The label of a superbox, which its first box, the description, carries."""
    for name, at, until in boxes(data, start, end):
        if name == b"jumd" and at + 17 <= until and data[at + 16] & _LABELLED:
            return data[at + 17 : until].partition(b"\0")[0].decode("utf-8", "replace")
        break
    return ""


def _content(data: bytes, start: int, end: int) -> Any:
    for name, at, until in boxes(data, start, end):
        if name == b"cbor":
            return _Cbor(data[at:until]).value()
        if name == b"json":
            try:
                return json.loads(data[at:until])
            except (ValueError, RecursionError) as error:
                raise StructureError(f"damaged JSON: {error}") from None
    return None


class _Cbor:
    """A reader of CBOR (RFC 8949) within bounds; what claims are written in."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._budget = _Budget(_MOST_VALUES)

    def value(self, depth: int = 0) -> Any:
        """The value that starts here.

        Raises:
            StructureError: it is cut off, or too deep or large.
        """
        self._budget.spend()
        if depth > _MOST_DEPTH:
            raise StructureError("nested too deep")
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            return self._simple(info)
        size = None if info == 31 else self._argument(info)
        if major in (2, 3):
            raw = self._take(size) if size is not None else self._joined(depth)
            return raw if major == 2 else raw.decode("utf-8", "replace")
        if major == 4:
            return [self.value(depth + 1) for _ in self._each(size)]
        if major == 5:
            pairs = ((self.value(depth + 1), self.value(depth + 1)) for _ in self._each(size))
            return {str(key): value for key, value in pairs}
        if size is None:
            raise StructureError("damaged CBOR")
        if major == 6:
            return self.value(depth + 1)
        return size if major == 0 else -1 - size

    def _each(self, size: int | None) -> Iterator[None]:
        """One turn an element; of an open length until its end mark."""
        if size is not None:
            if size > len(self._data):
                raise StructureError("cut off")
            yield from (None for _ in range(size))
            return
        while self._data[self._at : self._at + 1] != b"\xff":
            yield None
        self._at += 1

    def _joined(self, depth: int) -> bytes:
        parts = [self.value(depth + 1) for _ in self._each(None)]
        return b"".join(one if isinstance(one, bytes) else str(one).encode() for one in parts)

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise StructureError("damaged CBOR")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _simple(self, info: int) -> Any:
        if info in (25, 26, 27):
            code = {25: ">e", 26: ">f", 27: ">d"}[info]
            return struct.unpack(code, self._take(struct.calcsize(code)))[0]
        if info == 24:
            self._take(1)
        return {20: False, 21: True}.get(info)

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise StructureError("cut off")
        self._at += size
        return part
