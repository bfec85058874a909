import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.images import pixels_of
from rayapp.transforms import JpegLayout, Plan, Step, apply, encode_jpeg_as, read_jpeg_layout
from rayapp.transforms.jpeg_layouts import jpeg_as
from tests.transforms.conftest import picture
from tests.transforms.encoders import ENCODERS, SKEWED, quantisation

_FILES_EACH = 14  # with 23 encoders: 322 files
NO_FILE = {"pillow RGB planes", "opencv 80 4:4:0", "opencv 70 4:1:1"}  # none at hand writes them


def layout_of(data):
    return read_jpeg_layout(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("name", ENCODERS)
def test_another_picture_is_compressed_with_the_files_own_tables(name):
    for seed in range(_FILES_EACH):
        data = ENCODERS[name](picture(48 + 8 * seed, 96 - 3 * seed, seed))
        layout = layout_of(data)
        other = picture(64, 80, 100 + seed)
        file = encode_jpeg_as(other, layout)
        assert (file is None) == (name in NO_FILE)
        if file is not None:
            tables, factors = quantisation(data)
            assert quantisation(file)[0] == tables
            relative = [(h / factors[0][0], v / factors[0][1]) for h, v in factors]
            ours = quantisation(file)[1]
            assert [(h / ours[0][0], v / ours[0][1]) for h, v in ours] == relative
        assert JpegLayout.from_text(layout.to_text()) == layout


@pytest.mark.parametrize("name", ENCODERS)
def test_compressed_again_with_its_own_tables_a_file_stays_nearly_as_it_is(name):
    """Which only the right tables, subsampling, colours and grid do."""
    data = ENCODERS[name](picture(96, 128, 1))
    layout, pixels_HWC = layout_of(data), pixels_of(data)
    again_HWC = jpeg_as(pixels_HWC, layout.to_text())
    right = np.abs(again_HWC.astype(int) - pixels_HWC).mean()
    shifted_HWC = np.roll(pixels_HWC, (3, 5), (0, 1))
    moved_HWC = np.roll(jpeg_as(shifted_HWC, layout.to_text()), (-3, -5), (0, 1))
    wrong = np.abs(moved_HWC.astype(int) - pixels_HWC)[16:-16, 16:-16].mean()
    assert right < max(0.6 * wrong, 0.9), (right, wrong)


def test_planes_that_no_encoder_subsamples_so_are_done_as_it_would():
    """Against the files of an encoder that has these factors, with its usual tables."""
    for name in ("opencv 80 4:4:0", "opencv 70 4:1:1"):
        image_HWC = picture(64, 96, 3)
        wanted_HWC = pixels_of(ENCODERS[name](image_HWC))
        layout = layout_of(ENCODERS[name](image_HWC))
        found_HWC = jpeg_as(image_HWC, layout.to_text())
        damage = np.abs(wanted_HWC.astype(int) - image_HWC).mean()
        assert np.abs(found_HWC.astype(int) - wanted_HWC).mean() < 0.25 * damage, name
    assert layout.subsampling == "4:1:1"
    assert layout.unit_HW == (8, 32)


def test_a_skewed_table_is_not_turned():
    sink = io.BytesIO()
    Image.fromarray(picture(64, 64, 2)).save(sink, "JPEG", qtables=[SKEWED], subsampling=0)
    assert list(layout_of(sink.getvalue()).tables[0]) == SKEWED


def test_grey_gives_grey_and_inks_none():
    grey = layout_of(ENCODERS["pillow grey"](picture(32, 32)))
    found_HWC = jpeg_as(picture(32, 40), grey.to_text())
    assert grey.subsampling == "grey"
    assert (found_HWC == found_HWC[:, :, :1]).all()
    sink = io.BytesIO()
    Image.fromarray(picture(32, 32)).convert("CMYK").save(sink, "JPEG")
    assert layout_of(sink.getvalue()) is None
    sink = io.BytesIO()
    Image.fromarray(picture(32, 32)).save(sink, "PNG")
    assert layout_of(sink.getvalue()) is None


def test_a_plan_holds_it():
    layout = layout_of(ENCODERS["camera 4:2:2"](picture(32, 32)))
    plan = Plan((Step.of("jpeg_as", layout=layout.to_text()),))
    image_HWC = picture(40, 40)
    assert np.array_equal(
        apply(Plan.from_json(plan.to_json()), image_HWC), jpeg_as(image_HWC, layout.to_text())
    )
    with pytest.raises(ValueError, match="no colours of a JPEG"):
        jpeg_as(image_HWC, "xyz;1x1;00")


def test_files_of_the_world_stay_nearly_as_they_are():
    """The odd files beside the checkout: cameras, phones, editors."""
    folders = [folder / "shared/odd" for folder in Path(__file__).resolve().parents]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        pytest.skip("the odd files are not here (../shared/odd)")
    changes = []
    for path in sorted(found.glob("*.jp*g")):
        data = path.read_bytes()
        if len(data) > 400_000:
            continue
        try:
            image = Image.open(io.BytesIO(data))
            layout, pixels_HWC = read_jpeg_layout(image), np.asarray(image.convert("RGB"))
        except OSError:
            continue
        if layout and min(pixels_HWC.shape[:2]) > 64:
            again_HWC = jpeg_as(pixels_HWC, layout.to_text())
            changes.append(np.abs(again_HWC.astype(int) - pixels_HWC).mean())
    assert len(changes) > 15
    assert max(changes) < 1
