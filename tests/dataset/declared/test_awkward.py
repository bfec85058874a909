"""Awkward files: rare places, either byte order, pieces out of order, repeats, leftovers."""

import json
import struct
import zlib

import pytest

from rayapp.dataset.declared import read_declared
from tests.dataset.declared.files import (
    A1111,
    SOURCE,
    exif,
    jpeg_segment,
    png_chunk,
    png_texts,
    saved,
    source_type,
    with_exif,
    xmp,
)
from tests.dataset.declared.test_declared import GRAPH, UUID

MADE = source_type("trainedAlgorithmicMedia")
GUID = b"0123456789ABCDEF0123456789ABCDEF"


def extended(packet: bytes, *, order: tuple[int, ...] = (0, 1, 2), named: bytes = GUID) -> bytes:
    """A JPEG whose packet goes on in three more segments, written in some order."""
    note = xmp("").replace(
        b"<rdf:Description ",
        b'<rdf:Description xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + named + b'" ',
    )
    third = len(packet) // 3 + 1
    data = saved("JPEG", xmp=note)
    for at in reversed(order):  # each is put before the others
        piece = packet[at * third : (at + 1) * third]
        head = b"http://ns.adobe.com/xmp/extension/\0" + GUID
        content = head + struct.pack(">II", len(packet), at * third) + piece
        data = jpeg_segment(data, 0xE1, content)
    return data


def test_a_packet_over_several_segments_is_put_together() -> None:
    for order in ((0, 1, 2), (2, 0, 1)):
        found = read_declared(extended(MADE, order=order))
        assert found.kind == "ai-generated"
        assert "extended XMP" in found.by
    assert read_declared(extended(MADE, named=b"F" * 32)).kind == "nothing"  # of another picture
    assert read_declared(extended(MADE, order=(1, 2))).kind == "nothing"  # its start is missing


@pytest.mark.parametrize("lie", [0, 1 << 31, 0xFFFFFFFF])
def test_a_packet_that_lies_about_its_length_is_left(lie: int) -> None:
    data = bytearray(extended(MADE))
    for _ in range(3):
        at = data.index(struct.pack(">I", len(MADE)))
        data[at : at + 4] = struct.pack(">I", lie)
    assert read_declared(bytes(data)).kind == "nothing"


def heif(brand: bytes, items: list[tuple[bytes, bytes, bytes]], method: int) -> bytes:
    """A file of that brand with metadata items (type, content type, bytes).

    Args:
        brand: of its `ftyp`.
        items: what it holds.
        method: 0: each lies in the file, in two extents; 1: in the `idat` box.
    """

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + name + content

    entries = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", number, 0) + kind + b"\0" + mime)
        for number, (kind, mime, _) in enumerate(items, 1)
    )
    iinf = box(b"iinf", b"\0" * 4 + struct.pack(">H", len(items)) + entries)
    ftyp = box(b"ftyp", brand + b"\0" * 4 + b"mif1" + brand)
    whole = b"".join(part for _, _, part in items)

    def meta(start: int) -> bytes:
        at, places = start, b""
        for number, (_, _, part) in enumerate(items, 1):
            half = len(part) // 2 if method == 0 else len(part)
            extents = [(at, half)] + ([(at + half, len(part) - half)] if method == 0 else [])
            places += struct.pack(">HHHH", number, method, 0, len(extents))
            places += b"".join(struct.pack(">II", *one) for one in extents)
            at += len(part)
        iloc = box(b"iloc", b"\1\0\0\0\x44\0" + struct.pack(">H", len(items)) + places)
        inner = iinf + iloc + (box(b"idat", whole) if method else b"")
        return box(b"meta", b"\0" * 4 + inner)

    if method:
        return ftyp + meta(0)
    size = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(size) + box(b"mdat", whole)


@pytest.mark.parametrize("method", [0, 1])
@pytest.mark.parametrize("brand", [b"heic", b"avif"])
def test_items_of_heif_in_several_extents_and_inside_of_the_directory(
    brand: bytes, method: int
) -> None:
    packet = (b"mime", b"application/rdf+xml\0", MADE)
    assert read_declared(heif(brand, [packet], method)).kind == "ai-generated"
    comment = b"\0\0\0\6" + exif({}, b"UNICODE\0" + A1111.encode("utf-16-be"))
    other = (b"Exif", b"", comment)
    found = read_declared(heif(brand, [other, packet], method))
    assert {one.what for one in found.declarations} == {
        "Stable Diffusion WebUI's settings",
        "IPTC digital source type",
    }


CHINESE = "一只猫坐在屋顶上,夜晚," * 40  # no zero byte in its first hundreds
SETTINGS = "\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("prompt", ["a cat", CHINESE])
def test_comments_in_utf_16_of_either_order(kind: str, order: str, prompt: str) -> None:
    text = prompt + SETTINGS + ", App: SD.Next, Version: abc"
    for mark in ("", "\ufeff"):
        comment = b"UNICODE\0" + (mark + text).encode(order)
        found = read_declared(with_exif(kind, {}, comment))
        assert (found.kind, found.first.what) == ("ai-generated", "SD.Next's settings")


def gif(*comments: bytes) -> bytes:
    """A GIF with several comments before its end."""
    blocks = b"".join(b"!\xfe" + bytes([len(one)]) + one + b"\0" for one in comments)
    return saved("GIF")[:-1] + blocks + b";"


RAMP = b"\1" + bytes(range(255, -1, -1)) + b"\0"
AWKWARD = [
    ("a second comment", gif(b"hello", b"Created with GIMP"), "edited"),
    ("a repeated keyword", png_texts({"parameters": "none", "Parameters": A1111}), "ai-generated"),
    ("a comment and XMP in a GIF", saved("GIF", comment=b"Created with GIMP")[:-1]
     + b"!\xff\x0bXMP DataXMP" + MADE + RAMP + b";", "ai-generated"),
    ("XMP behind a GIF's end", saved("GIF") + b"!\xff\x0bXMP DataXMP" + MADE + RAMP + b";",
     "nothing"),
    ("EXIF of a PNG with a JPEG's header", png_chunk(saved("PNG"), b"eXIf", exif({305: "DALL-E"})),
     "ai-generated"),
    ("ComfyUI in a WebP's two fields",
     with_exif("WEBP", {271: "workflow:" + json.dumps({"nodes": [{"type": "KSampler"}]}),
                        272: "prompt:" + json.dumps(GRAPH)}), "ai-generated"),
    ("a graph in a JPEG's comment",
     with_exif("JPEG", {}, b"UNICODE\0" + json.dumps({"prompt": GRAPH}).encode("utf-16-le")),
     "ai-generated"),
    ("a graph as text in it",
     with_exif("JPEG", {}, b"ASCII\0\0\0" + json.dumps({"workflow": json.dumps(
         {"nodes": [{"type": "KSampler"}]})}).encode()), "ai-generated"),
    ("InvokeAI of 2024", png_texts({"invokeai_workflow": '{"nodes": []}'}), "ai-generated"),
    ("InvokeAI of 2022, JSON",
     png_texts({"sd-metadata": '{"app_id": "invoke-ai/InvokeAI", "image": {"steps": 50}}'}),
     "ai-generated"),
    ("Fooocus with its scheme",
     png_texts({"fooocus_scheme": "fooocus", "parameters": '{"base_model": "x"}'}),
     "ai-generated"),
    ("Midjourney's caption in IPTC",
     jpeg_segment(saved("JPEG"), 0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(
         ">I", 5 + 60) + b"\x1c\x02\x78" + struct.pack(">H", 60)
         + f"a cat --v 6 Job ID: {UUID}".ljust(60).encode() + b"\0"), "ai-generated"),
    ("the source type's older name",
     saved("JPEG", xmp=xmp(f"<Iptc4xmpExt:DigitalSourcefileType>{SOURCE}trainedAlgorithmicMedia"
                           "</Iptc4xmpExt:DigitalSourcefileType>")), "ai-generated"),
    ("IPTC of 2025",
     saved("JPEG", xmp=xmp("<Iptc4xmpExt:AISystemUsed>a system</Iptc4xmpExt:AISystemUsed>")),
     "ai-generated"),
    ("IPTC of 2025, a composite", saved("JPEG", xmp=xmp(
        "<Iptc4xmpExt:AISystemUsed>a system</Iptc4xmpExt:AISystemUsed>"
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}compositeWithTrainedAlgorithmicMedia"
        "</Iptc4xmpExt:DigitalSourceType>")), "ai-edited"),
    ("XMP in UTF-16", saved("WEBP", xmp=b"\xff\xfe" + MADE.decode().encode("utf-16-le")),
     "ai-generated"),
    ("a TIFF's IPTC and XMP", saved("TIFF", tiffinfo={700: MADE, 305: "GIMP"}), "ai-generated"),
    ("a keyword that is not one", png_texts({"parameterS2": A1111}), "nothing"),
    ("chunks after a PNG's end", saved("PNG") + png_chunk(saved("PNG"), b"tEXt",
     b"parameters\0" + A1111.encode())[8:], "nothing"),
    ("a chunk behind a WebP's size", saved("WEBP") + b"XMP " + struct.pack("<I", len(MADE))
     + MADE, "nothing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "kind"), [one[1:] for one in AWKWARD], ids=[one[0] for one in AWKWARD]
)
def test_awkward_files_declare_what_is_in_them(data: bytes, kind: str) -> None:
    found = read_declared(data)
    assert found.kind == kind, found.detail


def test_hidden_settings_are_told_only_where_they_are_asked_for() -> None:
    """NovelAI's are in the last bits of alpha: no plain text, so the file declares nothing."""
    text = zlib.compress(json.dumps({"Comment": "{}"}).encode())
    assert read_declared(saved("PNG") + text).kind == "nothing"
