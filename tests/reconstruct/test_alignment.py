import io

import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.images import pixels_of
from rayapp.reconstruct.alignment import read_history
from rayapp.transforms import Plan, apply
from tests.pictures import saved, smooth, wide_profile
from tests.transforms.conftest import picture
from tests.transforms.encoders import SKEWED


def turned(orientation, height=48, width=80, **options):
    """A JPEG that a viewer turns."""
    exif = Image.Exif()
    exif[274] = orientation
    return saved(Image.fromarray(picture(height, width, 5)), "JPEG", exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_is_turned_back_and_forth(orientation):
    data = turned(orientation)
    history = read_history(data)
    seen_HWC = pixels_of(data)
    stored_HWC = apply(Plan(history.to_stored), seen_HWC)
    assert np.array_equal(stored_HWC, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.array_equal(apply(Plan(history.to_seen), stored_HWC), seen_HWC)


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_a_turned_file_is_compressed_again_as_it_was_stored(orientation):
    data = turned(orientation, qtables=[SKEWED, SKEWED], subsampling=1)
    history, seen_HWC = read_history(data), pixels_of(data)
    again_HWC = apply(Plan(history.recompression), seen_HWC)
    right = np.abs(again_HWC.astype(int) - seen_HWC).mean()
    unturned_HWC = apply(Plan(history.recompression[len(history.to_stored) :][:1]), seen_HWC)
    wrong = np.abs(unturned_HWC.astype(int) - seen_HWC).mean()
    assert right < 1.5
    assert orientation == 1 or right < 0.6 * wrong, (right, wrong)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "said"),
    [
        ("JPEG", "RGB", {"quality": 80}, "JPEG 4:2:0"),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, "JPEG 4:4:4, progressive"),
        ("JPEG", "L", {}, "JPEG grey"),
        (
            "JPEG",
            "RGB",
            {"icc_profile": wide_profile()},
            "JPEG 4:2:0, compressed as sRGB, not in its own colours",
        ),
        ("JPEG", "CMYK", {}, "JPEG of CMYK"),
        ("PNG", "RGB", {}, "PNG"),
        ("PNG", "P", {}, "PNG of few colours"),
        ("PNG", "1", {}, "PNG of few colours"),
        ("GIF", "P", {}, "GIF of few colours"),
        ("WEBP", "RGB", {}, "WEBP, lossy"),
        ("WEBP", "RGB", {"lossless": True}, "WEBP"),
        ("AVIF", "RGB", {}, "AVIF, of unknown compression"),
        ("JPEG2000", "RGB", {}, "JPEG2000, of unknown compression"),
        ("BMP", "RGB", {}, "BMP"),
        ("TIFF", "RGB", {}, "TIFF"),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, "TIFF"),
        ("TIFF", "RGB", {"compression": "jpeg"}, "TIFF, lossy"),
    ],
)
def test_what_a_partner_gets_is_said(kind, mode, options, said):
    history = read_history(saved(smooth(32, 32).convert(mode), kind, **options))
    assert history.description == said
    assert history.can_be_given == (
        not said.endswith(("lossy", "compression", "few colours", "CMYK"))
    )
    assert bool(history.recompression) == (said.startswith("JPEG ") and history.can_be_given)
