"""Small sets of images under the label scheme `demo`, and odd files."""

import io
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from tests.transforms.conftest import picture

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


def encoded(image_HWC, suffix=".png", **options):
    sink = io.BytesIO()
    Image.fromarray(image_HWC).save(sink, FORMATS.get(suffix, suffix), **options)
    return sink.getvalue()


def make_set(folder: Path, count: int, sides=(40, 90)) -> Path:
    """`count` images, half of them real, under `folder`; the list of them."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for index in range(count):
        suffix = list(FORMATS)[index % 3]
        rng = np.random.default_rng(index)
        height, width = (int(side) for side in rng.integers(*sides, 2))
        path = f"images/{index:04d}{suffix}"
        (folder / path).write_bytes(encoded(picture(height, width, index), suffix))
        lines.append(f"{path},{'1,0,2,2' if index % 2 else '0,0,4,4'}\n")
    listed = folder / "test.txt"
    listed.write_text("".join(lines))
    return listed


def make_published(folder: Path, lengths=(301, 300, 310, 300), distinct=24) -> list[Path]:
    """Four lists as the published ones: a generator each, and reals that repeat across lists."""
    (folder / "images").mkdir(parents=True)
    drawn = random.Random(5)  # distinct sizes about the 256 px at which the draws change
    images = [
        encoded(picture(drawn.randint(60, 420), drawn.randint(60, 420), i), ".jpg")
        for i in range(distinct)
    ]
    lists = []
    for code, length in enumerate(lengths):
        lines = []
        for index in range(length):
            real = index >= length // 2
            path = f"images/r{index}.jpg" if real else f"images/{code}-{index}.jpg"
            (folder / path).write_bytes(images[(7 * index + code * (not real)) % distinct])
            lines.append(f"{path},{'0,0,4,4' if real else f'1,0,{code},{code}'}\n")
        lists.append(folder / f"test_annotations_{code}.txt")
        lists[-1].write_text("".join(lines))
    return lists


def odd_files() -> dict[str, tuple[bytes, str]]:
    """Name → (bytes, '' where it is perturbed, else a word of its error)."""
    image = picture(300, 280)
    jpeg, png = encoded(image, ".jpg"), encoded(image, ".png")
    turned = Image.fromarray(image).getexif()
    turned[274] = 6
    frames = [Image.fromarray(picture(40, 40, at)) for at in range(3)]
    sink = io.BytesIO()
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:])
    wide = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(wide, "PNG")
    cmyk = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(cmyk, "JPEG")
    return {
        "tiny.png": (encoded(picture(1, 1)), ""),
        "wide.png": (encoded(picture(1, 3000)), ""),
        "tall.jpg": (encoded(picture(3000, 2), ".jpg"), ""),
        "cmyk.jpg": (cmyk.getvalue(), ""),
        "16-bit.png": (wide.getvalue(), ""),
        "animated.gif": (sink.getvalue(), ""),
        "turned.jpg": (encoded(image, ".jpg", exif=turned), ""),
        "exif.jpg": (encoded(image, ".jpg", exif=b"Exif\0\0" + bytes(60_000)), ""),
        "empty.jpg": (b"", "empty"),
        "text.png": (b"not found", "text"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.png": (png[: len(png) // 2], "truncated"),
        "damaged.png": (png[:4000] + bytes(200) + png[4200:], "corrupt"),
        "damaged.jpg": (jpeg[:2000] + b"\xff\xd8\xff\xc4" + jpeg[2004:], "corrupt"),
    }


def damaged(count: int, seed: int = 0) -> dict[str, bytes]:
    """Files of six formats, each with bytes changed, cut out, doubled or cut off."""
    rng = random.Random(seed)
    whole = [
        (name.lower(), encoded(picture(side, side + 9, side), name))
        for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
        for side in (33, 90)
    ]
    result = {}
    for index in range(count):
        suffix, data = whole[index % len(whole)]
        bad = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            at = rng.randrange(max(len(bad), 1))
            length = rng.choice((1, 2, 16, 400))
            kind = rng.randrange(4)
            if kind == 0:
                bad[at : at + length] = rng.randbytes(length)
            elif kind == 1:
                del bad[at : at + length]
            elif kind == 2:
                bad[at:at] = bad[at : at + length]
            else:
                del bad[max(at, 1) :]
        result[f"{index:04d}.{suffix}"] = bytes(bad or b"\0")
    return result


def outcome(output: Path) -> dict:
    """What run.json says was made."""
    return json.loads((output / "run.json").read_text())
