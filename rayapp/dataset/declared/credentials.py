"""C2PA manifests (Content Credentials): what one claims, and whether its signature holds.

Verified by c2pa-python (extra `c2pa`) on this machine alone: no manifest, certificate or revocation
list is ever fetched. A signature proves who signed only where the signer's certificate leads to one
of a trust list; without a list that you give nobody is trusted, as anyone can make a certificate.
"""

import contextlib
import functools
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rayapp.config.errors import UserError
from rayapp.dataset.declared.declaration import (
    AI_EDITED,
    AI_GENERATED,
    BROKEN,
    CAMERA,
    EDITED,
    OF_AI,
    UNVERIFIED,
    VERIFIED,
    Declaration,
    Kind,
    State,
    one_line,
)
from rayapp.dataset.declared.jumbf import StructureError, read_store
from rayapp.dataset.declared.vocabulary import program, source_type

WHAT = "C2PA manifest"
NOT_INSTALLED = "c2pa-python is not installed: pip install 'imaginet-ray[c2pa]'"
_MIME = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WebP": "image/webp", "GIF": "image/gif",
    "TIFF": "image/tiff", "AVIF": "image/avif", "HEIC": "image/heic", "JPEG XL": "image/jxl",
}  # fmt: skip
# They say nothing of the picture, only of who vouches for it, or when.
_ABOUT_TRUST = ("signingCredential.", "timeStamp.", "timestamp.", "ocsp.")
# C2PA's conformance programme calls these non-editorial; beginnings are looked at by themselves.
_NO_EDITS = frozenset(
    f"c2pa.{name}"
    for name in (
        "created", "opened", "converted", "published", "repackaged", "transcoded",
        "resized.proportional", "enhanced", "edited.metadata", "watermarked", "watermarked.bound",
        "watermarked.unbound", "redacted", "orientation",
    )
)  # fmt: skip
_MOST_DEPTH = 12  # of ingredients of ingredients
_SHOWN_ACTIONS = 4


@dataclass(frozen=True)
class TrustList:
    """Certificates (PEM) to which a signer's must lead; by what name people know the list."""

    name: str = ""
    pem: str = ""


NO_LIST = TrustList()


def read_trust_list(uri: str | None, read: Callable[[str], bytes]) -> TrustList:
    """The certificates (PEM) in a file; nobody's where there is none.

    Args:
        uri: the file.
        read: its bytes.

    Raises:
        UserError: no certificates in it, or c2pa-python, which needs them, is not installed.
    """
    if uri is None:
        return NO_LIST
    pem = read(uri).decode("utf-8", "replace")
    if "-----BEGIN CERTIFICATE-----" not in pem:
        raise UserError(f"{uri}: holds no certificates; give a PEM file")
    c2pa = _library()
    if c2pa is None:
        raise UserError(f"--trust-list: {NOT_INSTALLED}")
    trust = TrustList(uri.rpartition("/")[2], pem)
    try:
        _context(trust)
    except c2pa.C2paError as error:
        raise UserError(f"{uri}: no list of certificates: {one_line(str(error), 120)}") from None
    return trust


def of_manifest(
    data: bytes, file_kind: str, where: str, store: bytes, trust: TrustList
) -> Declaration:
    """What a file's manifest declares.

    Args:
        data: the file.
        file_kind: as `formats` names it.
        where: where the manifest stands, in words.
        store: the manifest store's bytes.
        trust: whose signatures count.
    """
    try:
        found, state, why = _verified(data, file_kind, trust)
    except _NotReadByLibrary as error:
        try:
            found, state, why = read_store(store), error.state, str(error)
        except StructureError as damage:
            return Declaration(EDITED, WHAT, where, BROKEN, f"damaged: {damage}; {error}")
    manifests = found.get("manifests") or {}
    label = str(found.get("active_manifest") or "")
    manifest = manifests.get(label)
    if not isinstance(manifest, dict):
        return Declaration(EDITED, WHAT, where, BROKEN, f"no active manifest; {why}")
    kind = _kind(manifests, label, _MOST_DEPTH)
    return Declaration(kind, WHAT, where, state, f"{_claim(manifest)}; {why}")


def manifest_report(data: bytes, file_kind: str, store: bytes, trust: TrustList) -> dict[str, Any]:
    """All that a file's manifests say, as c2pa-python reports it, else as their structure has it.

    Arguments are those of `of_manifest`. Empty where nothing can be read.
    """
    try:
        return _verified(data, file_kind, trust)[0]
    except _NotReadByLibrary:
        with contextlib.suppress(StructureError):
            return read_store(store)
    return {}


class _NotReadByLibrary(Exception):
    """The library is not there, or reads no manifest; what that makes of it."""

    def __init__(self, why: str, state: State) -> None:
        super().__init__(why)
        self.state = state


# --- verifying -------------------------------------------------------------------

_contexts = threading.local()  # c2pa's are not said to be shared by threads


def _verified(data: bytes, file_kind: str, trust: TrustList) -> tuple[dict[str, Any], State, str]:
    """The library's report, and the signature's state with its reason."""
    c2pa = _library()
    if c2pa is None:
        raise _NotReadByLibrary(NOT_INSTALLED, UNVERIFIED)
    if file_kind not in _MIME:
        raise _NotReadByLibrary(f"c2pa-python verifies no {file_kind}", UNVERIFIED)
    try:
        with c2pa.Reader(_MIME[file_kind], io.BytesIO(data), context=_context(trust)) as reader:
            found = json.loads(reader.json())
    except (c2pa.C2paError, ValueError) as error:
        why = one_line(f"the library reads no manifest: {error}", 120)
        raise _NotReadByLibrary(why, BROKEN) from None
    return found, *_state(found, trust)


@functools.cache
def _library() -> Any:
    try:
        import c2pa
    except (ImportError, OSError):  # not installed, or not for this machine
        return None
    return c2pa


def _context(trust: TrustList) -> Any:
    known: dict[TrustList, Any] = vars(_contexts).setdefault("known", {})
    if trust not in known:
        settings: dict[str, Any] = {
            "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}
        }
        if trust.pem:
            settings["trust"] = {"trust_anchors": trust.pem}
        known[trust] = _library().Context.from_dict(settings)
    return known[trust]


def _state(found: dict[str, Any], trust: TrustList) -> tuple[State, str]:
    label = found.get("active_manifest")
    manifest = (found.get("manifests") or {}).get(label) or {}
    signer = manifest.get("signature_info") or {}
    name = one_line(str(signer.get("issuer") or signer.get("common_name") or "no name"), 60)
    broken = [code for code in _failures(found) if not code.startswith(_ABOUT_TRUST)]
    reported = found.get("validation_state")
    if broken or reported not in ("Valid", "Trusted", "Invalid"):
        codes = ", ".join(dict.fromkeys(broken)) or str(reported)
        return BROKEN, f"signed by {name}, but the file does not fit the signature ({codes})"
    if reported == "Trusted":
        return VERIFIED, f"signed by {name}, who is on the trust list {trust.name}"
    listed = f"who is not on the trust list {trust.name}" if trust.pem else "no trust list given"
    return UNVERIFIED, f"signature intact, signed by {name}, {listed}: anyone can sign so"


def _failures(found: dict[str, Any]) -> Iterator[str]:
    results = found.get("validation_results") or {}
    deltas = [one.get("validationDeltas") or {} for one in results.get("ingredientDeltas") or []]
    for part in [results.get("activeManifest") or {}, *deltas]:
        for one in part.get("failure") or []:
            yield str(one.get("code"))


# --- what it claims --------------------------------------------------------------


def _kind(manifests: Mapping[str, Any], label: str, depth: int) -> Kind:
    """What a manifest claims of its image, by its actions and by those of what it was made from."""
    manifest = manifests.get(label)
    if not isinstance(manifest, dict) or depth == 0:
        return EDITED
    actions = list(_actions(manifest))
    kinds = [(name, kind) for name, kind in actions if kind]
    made = {kind for name, kind in kinds if name == "c2pa.created"} | set(_stated(manifest))
    if AI_GENERATED in made:
        return AI_GENERATED
    parents, parts = _ingredients(manifest)
    from_ = {_kind(manifests, one, depth - 1) for one in parents if one in manifests}
    within = {_kind(manifests, one, depth - 1) for one in parts if one in manifests}
    if AI_GENERATED in from_:
        return AI_GENERATED
    if OF_AI & ({kind for _, kind in kinds} | made | from_ | within):
        return AI_EDITED
    edits = any(name not in _NO_EDITS for name, _ in actions)
    if not edits and not parts and (CAMERA in made or from_ == {CAMERA}):
        return CAMERA
    return EDITED


def _actions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Kind | None]]:
    """Name of each action and what its source type, else its program, says of it."""
    for data in _assertions(manifest, "c2pa.actions"):
        for one in data.get("actions") or []:
            if not isinstance(one, dict):
                continue
            name, agent = str(one.get("action")), one.get("softwareAgent") or ""
            agent = agent.get("name", "") if isinstance(agent, dict) else agent
            found = source_type(str(one.get("digitalSourceType") or ""))
            kind = found[1] if found else None
            if kind is None and program(str(agent)) == AI_GENERATED and name not in _NO_EDITS:
                kind = AI_EDITED
            if kind is None and name == "c2pa.created" and _by_generator(manifest, str(agent)):
                kind = AI_GENERATED
            yield name, kind


def _by_generator(manifest: Mapping[str, Any], agent: str) -> bool:
    return AI_GENERATED in (program(agent), program(_generator(manifest)))


def _stated(manifest: Mapping[str, Any]) -> Iterator[Kind]:
    """Source types in assertions of metadata; a camera's EXIF where it made the manifest."""
    for label in ("stds.iptc", "c2pa.metadata", "stds.exif"):
        for data in _assertions(manifest, label):
            for key, value in data.items():
                name = key.rpartition(":")[2]
                if name == "DigitalSourceType" and (found := source_type(str(value))):
                    yield found[1]
                elif name == "Make" and label == "stds.exif":
                    yield CAMERA


def _assertions(manifest: Mapping[str, Any], label: str) -> Iterator[dict[str, Any]]:
    for one in manifest.get("assertions") or []:
        if isinstance(one, dict) and str(one.get("label")).startswith(label):
            data = one.get("data")
            if isinstance(data, dict):
                yield data


def _ingredients(manifest: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Labels of the manifests of what the image was made from, and of what was put into it."""
    parents: list[str] = []
    parts: list[str] = []
    for one in manifest.get("ingredients") or []:
        if isinstance(one, dict):
            label = str(one.get("active_manifest") or "")
            (parents if one.get("relationship") == "parentOf" else parts).append(label)
    return parents, parts


def _claim(manifest: Mapping[str, Any]) -> str:
    """The claim generator and the first actions, with their source types."""
    acts = []
    for data in _assertions(manifest, "c2pa.actions"):
        for one in data.get("actions") or []:
            with contextlib.suppress(AttributeError):
                found = source_type(str(one.get("digitalSourceType") or ""))
                name = str(one.get("action"))
                acts.append(f"{name} ({found[0]})" if found else name)
    more = f" and {len(acts) - _SHOWN_ACTIONS} more" if len(acts) > _SHOWN_ACTIONS else ""
    listed = one_line(", ".join(acts[:_SHOWN_ACTIONS]), 160) + more
    return f"claimed by {_generator(manifest) or 'no name'}: {listed or 'no action'}"


def _generator(manifest: Mapping[str, Any]) -> str:
    info = manifest.get("claim_generator_info")
    first = info[0] if isinstance(info, list) and info else info
    name = first.get("name") if isinstance(first, dict) else None
    return one_line(str(name or manifest.get("claim_generator") or ""), 60)
