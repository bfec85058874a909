"""C2PA manifests that are signed here, and what becomes of them when the files are changed."""

import pytest

from rayapp.dataset.declared import NO_LIST, TrustList, credentials, read_declared
from tests.dataset.declared.files import A1111, jpeg_segment, png_chunk, saved, with_exif

pytest.importorskip("c2pa")

from tests.dataset.declared.signed import (
    GENERATED,
    KINDS,
    OPENED,
    action,
    authority,
    generated,
    signed,
)

TAKEN = [action("c2pa.created", "digitalCapture")]


@pytest.fixture(scope="module")
def trust() -> TrustList:
    return TrustList("tests.pem", authority()[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_verified_unverified_or_broken(kind: str, trust: TrustList) -> None:
    data = generated(kind)
    listed, unlisted = read_declared(data, trust), read_declared(data)
    assert (listed.kind, unlisted.kind) == ("ai-generated", "ai-generated")
    assert listed.by.endswith(", verified")
    assert "claimed by A generator: c2pa.created (trainedAlgorithmicMedia)" in listed.detail
    assert "signed by Tests' signer, who is on the trust list tests.pem" in listed.detail
    assert unlisted.by.endswith(", unverified")
    assert "no trust list given: anyone can sign so" in unlisted.detail
    changed = bytearray(data)
    at = _pixel(data, kind)
    changed[at] ^= 0x55
    assert read_declared(bytes(changed), trust).by.endswith(", broken")


def _pixel(data: bytes, kind: str) -> int:
    """A byte of the pixels, outside of the manifest."""
    if kind == "PNG":
        return data.index(b"IDAT") + 20
    return data.index(b"\xff\xda") + 40 if kind == "JPEG" else len(saved(kind)) // 2


def test_a_camera_with_a_broken_signature_is_shown_as_broken(trust: TrustList) -> None:
    data = bytearray(signed(with_exif("JPEG", {271: "Leica"}), "image/jpeg", TAKEN))
    assert read_declared(bytes(data), trust).columns()["declared"] == "camera"
    data[-40] ^= 1
    found = read_declared(bytes(data), trust)
    assert (found.kind, found.by) == ("camera", "C2PA manifest, JPEG APP11, broken")
    assert "the file does not fit the signature (assertion.dataHash.mismatch)" in found.detail


def test_a_changed_claim_is_broken(trust: TrustList) -> None:
    data = signed(saved("PNG"), "image/png", GENERATED)
    claimed = data.replace(b"trainedAlgorithmicMedia", b"digitalCapture/////////")
    assert len(claimed) == len(data)
    assert claimed != data
    assert read_declared(claimed, trust).by == "C2PA manifest, PNG caBX, broken"


def test_a_list_that_the_signer_is_not_on_verifies_nothing() -> None:
    other = TrustList("other.pem", _another_root())
    found = read_declared(signed(saved("PNG"), "image/png", GENERATED), other)
    assert found.by.endswith(", unverified")
    assert "who is not on the trust list other.pem" in found.detail


def _another_root() -> str:
    root = authority.__wrapped__()[0]
    assert root != authority()[0]
    return str(root)


CLAIMS = [
    ("generated", GENERATED, None, "ai-generated"),
    ("generated, then converted", [*GENERATED, action("c2pa.converted")], None, "ai-generated"),
    ("generated, then cropped", [*GENERATED, action("c2pa.cropped")], None, "ai-generated"),
    ("taken", TAKEN, None, "camera"),
    ("taken, then published", [*TAKEN, action("c2pa.published")], None, "camera"),
    ("taken, then cropped", [*TAKEN, action("c2pa.cropped")], None, "edited"),
    (
        "filled in",
        [*TAKEN, action("c2pa.edited", "compositeWithTrainedAlgorithmicMedia")],
        None,
        "ai-edited",
    ),
    ("filled in, by type", [*TAKEN, action("c2pa.edited", "trainedAlgorithmicMedia")], None,
     "ai-edited"),
    ("filled in by a program", [*TAKEN, action("c2pa.edited", softwareAgent="Adobe Firefly")],
     None, "ai-edited"),
    ("drawn", [action("c2pa.created", "digitalCreation")], None, "edited"),
    ("computed", [action("c2pa.created", "algorithmicMedia")], None, "edited"),
    ("opened a generated one", [OPENED, action("c2pa.cropped")], GENERATED,
     "ai-generated"),
    ("opened a photo, published", [OPENED, action("c2pa.published")], TAKEN,
     "camera"),
    ("opened a photo, cropped", [OPENED, action("c2pa.cropped")], TAKEN, "edited"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("actions", "parent", "kind"), [one[1:] for one in CLAIMS], ids=[one[0] for one in CLAIMS]
)
def test_claims_mean_what_their_actions_say(actions, parent, kind, trust: TrustList) -> None:
    of = signed(saved("JPEG"), "image/jpeg", parent) if parent else None
    data = signed(of or saved("JPEG"), "image/jpeg", actions, parent=of)
    assert read_declared(data, trust).kind == kind
    # As much without the library, by the structure alone.
    store = next(part.data for part in credentials_chunks(data))
    structure = credentials.read_store(store)
    label = structure["active_manifest"]
    assert credentials._kind(structure["manifests"], label, 12) == kind


def credentials_chunks(data: bytes):
    from rayapp.dataset.declared.chunks import chunks

    return (part for part in chunks(data) if part.kind == "c2pa")


def test_a_generator_that_gives_no_type_is_known_by_its_name() -> None:
    """As claims of 2023 were; today's signers refuse to make one."""
    made = {"label": "c2pa.actions", "data": {"actions": [action("c2pa.created")]}}
    for name, kind in (("ChatGPT", "ai-generated"), ("Some program", "edited")):
        manifest = {"claim_generator": f"{name} 1.0", "assertions": [made]}
        assert credentials._kind({"it": manifest}, "it", 2) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_library_the_structure_is_read(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = generated(kind)
    monkeypatch.setattr(credentials, "_library", lambda: None)
    found = read_declared(data)
    assert (found.kind, found.by.rpartition(", ")[2]) == ("ai-generated", "unverified")
    assert found.detail == (
        "claimed by A generator: c2pa.created (trainedAlgorithmicMedia); "
        "c2pa-python is not installed: pip install 'imaginet-ray[c2pa]'"
    )


def test_a_large_manifest_over_several_segments_is_put_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [action("c2pa.created", "digitalCapture", parameters={"note": "x" * 150_000})]
    data = signed(saved("JPEG"), "image/jpeg", many)
    assert data.count(b"\xff\xeb") >= 3
    monkeypatch.setattr(credentials, "_library", lambda: None)
    assert read_declared(data).kind == "camera"


def test_settings_beside_a_verified_photo_are_named_after_it(trust: TrustList) -> None:
    comment = b"ASCII\0\0\0" + A1111.encode()
    data = signed(with_exif("JPEG", {}, comment), "image/jpeg", TAKEN)
    found = read_declared(data, trust)
    assert (found.kind, found.first.state) == ("camera", "verified")
    assert "also ai-generated by Stable Diffusion WebUI's settings (unverified)" in found.detail
    assert read_declared(data, NO_LIST).kind == "ai-generated"


def test_nothing_is_fetched(trust: TrustList, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    settings = []
    library = credentials._library()
    made = library.Context.from_dict
    monkeypatch.setattr(
        library.Context, "from_dict", lambda given: settings.append(given) or made(given)
    )
    fresh = TrustList("fresh", trust.pem)
    assert read_declared(signed(saved("PNG"), "image/png", TAKEN), fresh).by.endswith(" verified")
    (given,) = settings
    assert given["verify"]["remote_manifest_fetch"] is False
    assert given["verify"]["ocsp_fetch"] is False


def test_bytes_behind_a_signed_png_break_nothing_but_are_not_read(trust: TrustList) -> None:
    data = signed(saved("PNG"), "image/png", GENERATED)
    found = read_declared(data + b'tEXtprompt\0{"', trust)
    assert (found.kind, len(found.declarations)) == ("ai-generated", 1)


def _segments_of(data: bytes) -> list[bytes]:
    from rayapp.dataset.declared.chunks import _segments

    return [part for marker, part in _segments(data) if marker == 0xEB]


@pytest.mark.parametrize("number", [b"\2\x11", b"\7\x77"])
def test_the_manifest_of_another_file_is_broken_also_beside_ones_own(
    number: bytes, trust: TrustList
) -> None:
    other = [part[:2] + number + part[4:] for part in _segments_of(generated("JPEG"))]
    for data in (saved("JPEG"), signed(saved("JPEG"), "image/jpeg", TAKEN)):
        for part in reversed(other):
            data = jpeg_segment(data, 0xEB, part)
        found = read_declared(data, trust)
        assert found.kind == "ai-generated"
        assert {one.state for one in found.declarations} == {"broken"}


@pytest.mark.parametrize("first", [True, False])
def test_two_manifests_in_a_png_are_both_broken(first: bool, trust: TrustList) -> None:
    one, other = signed(saved("PNG"), "image/png", TAKEN), generated("PNG")
    at = other.index(b"caBX")
    content = other[at + 4 : at + 4 + int.from_bytes(other[at - 4 : at], "big")]
    data = png_chunk(one, b"caBX", content)
    if first:
        chunk = data[-12 - len(content) - 12 : -12]
        start = one.index(b"caBX") - 4
        data = one[:start] + chunk + one[start:]
    found = read_declared(data, trust)
    assert {(one.kind, one.state) for one in found.declarations} == {
        ("ai-generated", "broken"),
        ("camera", "broken"),
    }
    assert "more than one manifest store" in found.detail
