"""Files that are small and promise much: pictures, metadata and boxes that unpack to too much."""

import io
import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image


def picture(draw: Random, kind: str) -> bytes:
    """A small picture of a format."""
    side = draw.randrange(96, 200)
    pixels = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 255, (side, side, 3))
    sink = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(sink, kind)
    return sink.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + b"".join(chunks) + _chunk(b"IEND", b"")


def _zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    some = bytes(1 << 20)
    return b"".join(packer.compress(some) for _ in range(megabytes)) + packer.flush()


def bombs(draw: Random) -> dict[str, Callable[[], bytes]]:
    """Files that are small and promise much, by what they are."""
    side = draw.choice((20_000, 60_000, 0x7FFFFFFF))
    return {
        "PNG that unpacks to much": lambda: _png(side, side, _chunk(b"IDAT", _zeros(20))),
        "PNG of one row": lambda: _png(0x7FFFFFFF, 1, _chunk(b"IDAT", _zeros(4))),
        "PNG of no size": lambda: _png(0, draw.randrange(2), _chunk(b"IDAT", b"")),
        "PNG with a text that unpacks to much": lambda: _png(
            64, 64, _chunk(b"zTXt", b"k\0\0" + _zeros(60)), _chunk(b"IDAT", _zeros(1))
        ),
        "PNG with a profile that unpacks to much": lambda: _png(
            64, 64, _chunk(b"iCCP", b"k\0\0" + _zeros(60)), _chunk(b"IDAT", _zeros(1))
        ),
        "PNG of a thousand texts": lambda: _png(
            64, 64, *[_chunk(b"tEXt", b"parameters\0" + bytes(200))] * 1000
        ),
        "GIF of a large screen": lambda: b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(768) + b";",
        "GIF of many frames": lambda: _frames("GIF", 60),
        "WebP of many frames": lambda: _frames("WEBP", 30),
        "TIFF that leads back to itself": lambda: _tiff_loop(draw),
        "JPEG that says it is large": lambda: _large_jpeg(draw),
        "BMP that says it is large": lambda: (
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6)
        ),
        "PPM that says it is large": lambda: f"P6 {side} {side} 255\n".encode(),
        "JPEG XL of nothing": lambda: b"\xff\x0a" + draw.randbytes(400),
        "AVIF of boxes": lambda: _boxes(draw, b"avif"),
        "HEIF of boxes": lambda: _boxes(draw, b"heic"),
        "SVG of entities": lambda: _entities(),
        "metadata in metadata": lambda: _xmp_bomb(draw),
    }


def _frames(kind: str, count: int) -> bytes:
    sink = io.BytesIO()
    frames = [Image.new("RGB", (300, 300), (k % 256, 0, 0)) for k in range(count)]
    frames[0].save(sink, kind, save_all=True, append_images=frames[1:])
    return sink.getvalue()


def _tiff_loop(draw: Random) -> bytes:
    """One directory, whose next is itself, with a count that no file could hold."""
    tags = [(256, 4, 1, 30_000), (257, 4, 1, 30_000), (273, 4, 0x3FFFFFFF, 8), (279, 4, 1, 1 << 30)]
    tags += [(34665, 4, 1, 8)]  # EXIF, which is the same directory
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    following = draw.choice((8, 4, 0xFFFFFFFF))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", following)


def _large_jpeg(draw: Random) -> bytes:
    data = bytearray(picture(draw, "JPEG"))
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def _boxes(draw: Random, brand: bytes) -> bytes:
    head = struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand
    size = draw.choice((0, 1, 7, 0xFFFFFFFF))
    nested = b"".join(struct.pack(">I", 1 << 20) + b"meta" + bytes(4) for _ in range(2000))
    return head + struct.pack(">I", size) + b"meta" + bytes(8) + nested


def _entities() -> bytes:
    lines = ["<!ENTITY a 'aaaaaaaaaa'>"]
    lines += [
        f"<!ENTITY {chr(98 + k)} '{f'&{chr(97 + k)};' * 10}'>" for k in range(9)
    ]  # each ten of the one before
    return f"<?xml version='1.0'?><!DOCTYPE s [{''.join(lines)}]><svg>&j;</svg>".encode()


def _xmp_bomb(draw: Random) -> bytes:
    inner = _entities() if draw.random() < 0.5 else b"<x:xmpmeta>" * 100_000
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + inner
    return _png(64, 64, _chunk(b"iTXt", text), _chunk(b"IDAT", zlib.compress(bytes(193 * 64))))
