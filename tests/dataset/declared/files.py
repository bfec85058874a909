"""Files of each format with metadata put where its format keeps it."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:exif="http://ns.adobe.com/exif/1.0/">{}</rdf:Description></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
A1111 = (
    "a cat on a roof\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
    "Seed: 1, Size: 512x512, Model hash: abc, Model: v1-5, Version: v1.9.0"
)


def picture(mode: str = "RGB", side: int = 40) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (side, side, len(mode)), dtype=np.uint8)
    return Image.fromarray(values)


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    (image or picture()).save(sink, kind, **options)
    return sink.getvalue()


def xmp(inner: str) -> bytes:
    return XMP.format(inner).encode()


def source_type(name: str) -> bytes:
    kept = f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}{name}</Iptc4xmpExt:DigitalSourceType>"
    return xmp(kept)


def png_texts(texts: Mapping[str, str], *, packed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=packed)
    return saved("PNG", pnginfo=info)


def png_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """The PNG with one more chunk before its end."""
    crc = zlib.crc32(name + content)
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)
    return data[:-12] + chunk + data[-12:]


def exif(tags: Mapping[int, Any], comment: bytes = b"") -> bytes:
    """EXIF with tags of its first directory and a UserComment."""
    found = Image.Exif()
    for tag, value in tags.items():
        found[tag] = value
    if comment:
        found.get_ifd(0x8769)[37510] = comment
    return found.tobytes()


def with_exif(kind: str, tags: Mapping[int, Any], comment: bytes = b"") -> bytes:
    return saved(kind, exif=exif(tags, comment))


def jpeg_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """The JPEG with one more segment at its start."""
    return (
        data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]
    )
