"""One picture gives the same logits whatever door it comes in by: property tests, with controls."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from rayapp.models.detector import Detector
from tests.detectors import tiny_detector
from tests.pictures import photographed, saved, wide_profile

LOSSLESS: dict[str, Any] = {"lossless": True}
FORMATS: dict[str, tuple[str, ...]] = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("PNG", "TIFF", "BMP", "GIF", "JPEG", "JPEG2000"),
    "LA": ("PNG", "TIFF", "JPEG2000"),
    "P": ("PNG", "TIFF", "BMP", "GIF"),
    "I;16": ("PNG", "TIFF", "JPEG2000"),
    "F": ("TIFF",),
    "CMYK": ("JPEG", "TIFF"),
    "RGB": ("PNG", "TIFF", "BMP", "JPEG", "MPO", "WEBP", "AVIF", "JPEG2000", "HEIF", "JXL"),
    "RGBA": ("PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF", "JXL"),
}
AS_ARRAYS = {"1", "L", "LA", "I;16", "F", "RGB", "RGBA"}  # an array tells of no inks, no palette
TURNED = {"PNG", "JPEG", "MPO", "WEBP", "TIFF"}
OPTIONS: dict[str, dict[str, Any]] = {"WEBP": LOSSLESS, "JPEG": {"quality": 90}}
CASES = [(mode, kind) for mode, kinds in FORMATS.items() for kind in kinds]


@pytest.fixture(scope="module")
def detector() -> Detector:
    pytest.importorskip("pillow_heif").register_heif_opener()  # to write them
    pytest.importorskip("pillow_jxl")
    return tiny_detector()


def logits_of(detector: Detector, entries: list[Any]) -> list[float]:
    """Each by itself: in a batch the last bit depends on the place."""
    return [float(detector.logits([entry])[0]) for entry in entries]


def in_mode(mode: str, height: int, width: int, seed: int) -> Image.Image:
    pixels_HWC = photographed(height, width, seed)
    picture = Image.fromarray(pixels_HWC)
    if mode == "I;16":
        low = np.random.default_rng(seed).integers(0, 256, (height, width))
        return Image.fromarray((pixels_HWC[..., 0].astype(np.uint16) << 8) + low.astype(np.uint16))
    if mode == "F":
        return Image.fromarray(pixels_HWC[..., 0].astype(np.float32))
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(pixels_HWC[::-1, :, 1]))
    return picture.convert(mode)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(CASES),
    st.integers(8, 48),
    st.integers(8, 48),
    st.integers(0, 99),
    st.sampled_from([None, 2, 3, 6, 7]),
)
def test_path_bytes_picture_and_array_give_the_same_logits(
    tmp_path: Path,
    detector: Detector,
    case: tuple[str, str],
    height: int,
    width: int,
    seed: int,
    orientation: int | None,
):
    mode, kind = case
    options = dict(OPTIONS.get(kind, {}))
    if orientation and kind in TURNED:
        options["exif"] = Image.Exif()
        options["exif"][274] = orientation
    data = saved(in_mode(mode, height, width, seed), kind, **options)
    (tmp_path / "picture").write_bytes(data)
    entries: list[Any] = [tmp_path / "picture", data, Image.open(io.BytesIO(data))]
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    entries.append(loaded)
    if loaded.mode in AS_ARRAYS and "exif" not in options:  # a GIF's greys are a palette
        entries.append(np.asarray(loaded))
    assert len(set(logits_of(detector, entries))) == 1


@given(st.integers(8, 48), st.integers(8, 48), st.integers(0, 99))
def test_a_palette_with_alpha_is_seen_as_its_colours(height: int, width: int, seed: int):
    picture = in_mode("P", height, width, seed).convert("PA")
    picture.putalpha(Image.fromarray(photographed(height, width, seed + 1)[..., 0]))
    logits = logits_of(tiny_detector(), [picture, picture.convert("RGBA")])
    assert logits[0] == logits[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["PNG", "TIFF", "WEBP"]), st.integers(0, 99))
def test_what_is_transparent_is_not_seen_and_what_covers_is(
    detector: Detector, kind: str, seed: int
):
    options = {**LOSSLESS, "exact": True} if kind == "WEBP" else {}
    rgba = np.dstack([photographed(32, 32, seed), np.full((32, 32), 255, np.uint8)])
    rgba[8:24, 8:24, 3] = 0
    hidden = rgba.copy()
    hidden[8:24, 8:24, :3] = photographed(16, 16, seed + 1)
    covering = hidden.copy()
    covering[8:24, 8:24, 3] = 255
    files = [saved(Image.fromarray(one), kind, **options) for one in (rgba, hidden, covering)]
    stored = [np.asarray(Image.open(io.BytesIO(file))) for file in files[:2]]
    assert not np.array_equal(*stored)  # the file does hold what is hidden
    seen, unseen, covered = logits_of(detector, files)
    assert seen == unseen != covered


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_profile_that_is_another_is_applied_and_srgb_changes_nothing(
    detector: Detector, kind: str
):
    picture = Image.fromarray(photographed(32, 32))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles: list[dict[str, Any]] = [{}, {"icc_profile": srgb}, {"icc_profile": wide_profile()}]
    files = [saved(picture, kind, **OPTIONS.get(kind, {}), **given) for given in profiles]
    plain, same, other = logits_of(detector, files)
    assert plain == same != other


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_of_16_bits_the_upper_8_are_seen(detector: Detector, kind: str):
    values = photographed(32, 32)[..., 0].astype(np.uint16) << 8
    wide = [values, values + 255, values ^ 0x1000 * (np.arange(32) % 2).astype(np.uint16)]
    low, same, other = logits_of(detector, [saved(Image.fromarray(one), kind) for one in wide])
    assert low == same != other
    assert logits_of(detector, [(values >> 8).astype(np.uint8)])[0] == low
