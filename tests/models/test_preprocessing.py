import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from rayapp.dataset.images import ImageError
from rayapp.models import preprocessing
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.preprocessing import cut_views, preprocess, seen_boxes


def image(height: int, width: int) -> np.ndarray:
    """Each pixel tells where it was: red its row, green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8)


def corners(view: str, height: int, width: int) -> list[tuple[int, int]]:
    views = cut_views(image(height, width), Preprocessing(view=view, size=32))
    assert views.shape[1:] == (32, 32, 3)
    assert all((np.diff(v[:, 0, 0].astype(int)) == 1).all() for v in views)
    return [(int(v[0, 0, 0]), int(v[0, 0, 1])) for v in views]


def test_centre_and_five_are_the_images_own_pixels() -> None:
    assert corners("centre", 50, 61) == [(9, 14)]
    assert corners("five", 50, 61) == [(9, 14), (0, 0), (0, 29), (18, 0), (18, 29)]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 100), (200, 64), (97, 65)])
def test_tiles_cover_every_pixel(height: int, width: int) -> None:
    seen = np.zeros((height, width), dtype=bool)
    found = corners("tiles", height, width)
    for top, left in found:
        seen[top : top + 32, left : left + 32] = True
    assert seen.all()
    assert len(found) == -(-height // 32) * -(-width // 32)


def test_small_images_are_padded_by_reflection() -> None:
    (view,) = cut_views(image(20, 31), Preprocessing(size=32))
    assert view[:, 0, 0].tolist() == [*range(6, 0, -1), *range(20), *range(18, 12, -1)]
    assert view[0, :, 1].tolist() == [*range(31), 29]
    (single,) = cut_views(np.full((1, 1, 3), 7, np.uint8), Preprocessing(size=32))
    assert (single == 7).all()


@pytest.mark.parametrize(("height", "width"), [(64, 90), (90, 64), (16, 20), (301, 64)])
def test_resize_brings_the_shorter_side_to_size(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    (view,) = cut_views(pixels, Preprocessing(view="resize", size=32))
    scale = 32 / min(height, width)
    target = (round(width * scale), round(height * scale))
    whole = cv2.resize(
        pixels, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4
    )
    top, left = (whole.shape[0] - 32) // 2, (whole.shape[1] - 32) // 2
    np.testing.assert_array_equal(view, whole[top : top + 32, left : left + 32])


def test_normalised_as_the_settings_say() -> None:
    settings = Preprocessing(size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    tensor = preprocess(pixels, settings)
    assert tensor.dtype == torch.float32
    expected = (pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(tensor[0].permute(1, 2, 0), expected, rtol=1e-4, atol=1e-6)


def test_hash_tells_views_apart() -> None:
    assert Preprocessing().hash == Preprocessing().hash
    assert Preprocessing().hash != Preprocessing(view="five").hash


@pytest.mark.parametrize("view", ["centre", "five", "tiles"])
@pytest.mark.parametrize(("height", "width"), [(50, 61), (33, 200), (20, 31), (20, 90), (64, 64)])
def test_the_boxes_hold_the_pixels_that_the_views_show(view: str, height: int, width: int) -> None:
    preprocessing = Preprocessing(view=view, size=32)
    views = cut_views(image(height, width), preprocessing)
    boxes = seen_boxes((height, width), preprocessing)
    assert len(boxes) == len(views)
    for (top, left, bottom, right), one in zip(boxes, views, strict=True):
        rows, columns = one[:, :, 0].astype(int), one[:, :, 1].astype(int)
        assert (rows.min(), rows.max() + 1) == (round(top * height), round(bottom * height))
        assert (columns.min(), columns.max() + 1) == (round(left * width), round(right * width))


@pytest.mark.parametrize("filter", [None, "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(64, 160), (160, 64), (20, 50)])
def test_the_box_of_a_shrunk_image_is_that_of_the_whole(
    filter: str | None, height: int, width: int
):
    preprocessing = Preprocessing(view="resize", size=32, resize_to=40, filter=filter)
    (view,) = cut_views(image(height, width), preprocessing)
    ((top, left, bottom, right),) = seen_boxes((height, width), preprocessing)
    rows, columns = view[:, :, 0].astype(int), view[:, :, 1].astype(int)
    pixel = max(1.0, min(height, width) / 40)  # what one of the view's pixels was
    assert abs(rows.min() - top * height) <= pixel
    assert abs(rows.max() + 1 - bottom * height) <= pixel
    assert abs(columns.min() - left * width) <= pixel
    assert abs(columns.max() + 1 - right * width) <= pixel


@pytest.mark.parametrize("filter", [None, "bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(2, 3000), (3, 999), (2500, 5)])
def test_of_a_very_long_image_only_the_middle_is_resized(height, width, filter, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    settings = Preprocessing(view="resize", size=30, filter=filter)
    (view,) = cut_views(pixels, settings)
    monkeypatch.setattr(preprocessing, "_LONGEST", 10_000)
    # OpenCV rounds by where a pixel lies: seen were 25 of 2,700 samples off by one level.
    np.testing.assert_allclose(view.astype(int), cut_views(pixels, settings)[0].astype(int), atol=1)


@pytest.mark.parametrize("view", ["centre", "five", "resize"])
@pytest.mark.parametrize("shape", [(1, 60_000_000), (60_000_000, 1), (2, 20_000)])
def test_a_thread_of_pixels_takes_no_memory_of_its_own(view, shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    tracemalloc.start()
    views = cut_views(pixels, Preprocessing(view=view, size=224))
    assert views.shape[1:] == (224, 224, 3)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_tiles_of_a_thread_of_pixels_are_refused_by_name():
    with pytest.raises(ImageError, match="9000000×1 pixels: too narrow to be tiled by 256 px"):
        cut_views(np.zeros((1, 9_000_000, 3), np.uint8), Preprocessing(view="tiles"))
