"""Each operation against a reference written another way, with equal parameters."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rayapp.transforms import operations
from tests.transforms.conftest import picture

ODD = picture(37, 53)


def pillow(image_HWC, fmt, **options):
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, fmt, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


def psnr(a, b):
    error = np.mean((a.astype(float) - b) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("size", [(37, 53), (40, 60), (41, 53), (37, 90), (200, 300)])
def test_pad_is_reflect_101_with_the_smaller_half_up_and_left(size):
    below, right = size[0] - 37, size[1] - 53
    halves = (below // 2, -(-below // 2)), (right // 2, -(-right // 2)), (0, 0)
    np.testing.assert_array_equal(operations.pad(ODD, *size), np.pad(ODD, halves, mode="reflect"))


def test_pad_leaves_large_images_and_mirrors_single_pixels():
    assert operations.pad(ODD, 10, 10) is ODD
    dot = np.full((1, 1, 3), 9, np.uint8)
    assert (operations.pad(dot, 256, 256) == 9).all()
    assert operations.pad(picture(1, 500), 256, 256).shape == (256, 500, 3)


def test_letterbox_leaves_the_image_in_the_middle_of_its_bars():
    boxed = operations.letterbox(ODD, 40, 53, 7)
    expected = np.pad(ODD, ((1, 2), (0, 0), (0, 0)), constant_values=7)
    np.testing.assert_array_equal(boxed, expected)
    np.testing.assert_array_equal(operations.letterbox(ODD, 10, 53, 7), ODD)


def test_crop_takes_the_rectangle_and_nothing_outside():
    rows, columns = np.arange(5, 25), np.arange(7, 37)
    expected = ODD.take(rows, axis=0).take(columns, axis=1)
    np.testing.assert_array_equal(operations.crop(ODD, 5, 7, 20, 30), expected)
    for wrong in [(-1, 0, 5, 5), (0, 0, 38, 5), (0, 50, 5, 5), (0, 0, 0, 5)]:
        with pytest.raises(ValueError, match="leaves the image of 37×53"):
            operations.crop(ODD, *wrong)


def test_windows_at_named_places():
    places = {"top_left": (0, 0), "top_right": (0, 32), "bottom_left": (16, 0)}
    places |= {"bottom_right": (16, 32), "centre": (8, 16)}
    for place, corner in places.items():
        assert operations.window_at((37, 53), 21, place) == (*corner, 21, 21)
    padded = np.pad(ODD, ((1, 2), (0, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(operations.pad(ODD, 40, 40), padded)


@pytest.mark.parametrize("name", ["lanczos4", "area"])
@pytest.mark.parametrize("size", [(256, 256), (20, 31), (37, 53), (1, 1)])
def test_resize_is_opencv_s_own_plane_by_plane(name, size):
    flag = {"lanczos4": cv2.INTER_LANCZOS4, "area": cv2.INTER_AREA}[name]
    planes = [
        cv2.resize(np.ascontiguousarray(ODD[..., c]), size[::-1], interpolation=flag)
        for c in range(3)
    ]
    np.testing.assert_array_equal(operations.resize(ODD, *size, name), np.stack(planes, axis=-1))


def test_halving_by_area_is_the_mean_of_four():
    image = picture(64, 48)
    mean = image.reshape(32, 2, 24, 2, 3).astype(int).sum(axis=(1, 3)) / 4
    np.testing.assert_allclose(operations.resize(image, 32, 24, "area"), mean, atol=0.5)


def test_lanczos4_is_the_windowed_sinc():
    """Enlarged by 2 along one axis, inside: Σ s(x)·sinc(x)·sinc(x/4), weights summing to 1."""
    line = picture(8, 40)
    taps = np.arange(-3, 5)
    for phase in (0.25, 0.75):
        x = taps - phase
        weights = np.sinc(x) * np.sinc(x / 4)
        weights /= weights.sum()
        at = 2 * 20 + (1 if phase == 0.25 else 2)
        exact = np.tensordot(weights, line[:, 20 + taps].astype(float), axes=(0, 1))
        got = operations.resize(line, 8, 80, "lanczos4")[:, at]
        assert np.abs(got - exact.clip(0, 255)).max() <= 1


@pytest.mark.parametrize("quality", [40, 60, 83, 100])
def test_jpeg_and_webp_equal_pillow(quality):
    image = picture(123, 157)
    jpeg = pillow(image, "JPEG", quality=quality, subsampling=2)
    webp = pillow(image, "WEBP", quality=quality)
    for got, expected in [
        (operations.jpeg(image, quality, "rgb"), jpeg),
        (operations.webp(image, quality, "rgb"), webp),
    ]:
        assert psnr(got, expected) >= 50  # infinite where Pillow and OpenCV carry one codec build
        assert psnr(got, image) < 50  # and it did compress


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_published_channel_order_takes_red_for_blue(name):
    image = picture(64, 64)
    operation = getattr(operations, name)
    swapped = np.ascontiguousarray(image[..., ::-1])
    published = operation(image, 70, "bgr")
    np.testing.assert_array_equal(published, operation(swapped, 70, "rgb")[..., ::-1])
    assert not np.array_equal(published, operation(image, 70, "rgb"))


def test_codecs_refuse_what_their_format_cannot_hold():
    wide = np.zeros((1, 16_384, 3), np.uint8)
    with pytest.raises(ValueError, match="at most 16383"):
        operations.webp(wide, 80, "rgb")
    assert operations.jpeg(wide, 80, "rgb").shape == wide.shape
    with pytest.raises(ValueError, match="at most 65500"):
        operations.jpeg(np.zeros((65_501, 1, 3), np.uint8), 80, "rgb")


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11])
def test_blur_is_within_one_level_of_scipy(kernel):
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    x = np.arange(kernel) - kernel // 2
    weights = np.exp(-(x**2) / (2 * sigma**2))
    weights /= weights.sum()
    image = picture(64, 80).astype(float)
    expected = ndimage.correlate1d(image, weights, axis=0, mode="mirror")
    expected = ndimage.correlate1d(expected, weights, axis=1, mode="mirror")
    got = operations.blur(picture(64, 80), kernel)
    # Up to 7 px OpenCV rounds the weights to eighths and more: 1 level and rounding.
    assert np.abs(got - np.rint(expected)).max() <= 1


@pytest.mark.parametrize("variance", [3.0, 10.0])
def test_noise_has_its_mean_and_variance(variance):
    grey = np.full((256, 256, 3), 128, np.uint8)
    added = operations.noise(grey, variance, seed=5).astype(float) - 128
    total = variance + 1 / 12  # rounding to whole levels adds 1/12
    assert abs(added.mean()) < 3 * np.sqrt(total / added.size)
    assert abs(added.var() - total) < 3 * total * np.sqrt(2 / added.size)
    channels = added.reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.02  # apart for each channel


def test_noise_is_rounded_clipped_and_a_function_of_its_seed():
    image = picture(40, 40)
    field = np.random.Generator(np.random.Philox(key=11)).standard_normal(image.shape, np.float32)
    expected = np.rint(image + field * np.float32(np.sqrt(10.0))).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(operations.noise(image, 10.0, 11), expected)
    assert not np.array_equal(operations.noise(image, 10.0, 12), expected)


def test_rotations_flips_and_grayscale():
    for turns in range(4):
        np.testing.assert_array_equal(operations.rotate90(ODD, turns), np.rot90(ODD, turns))
    for axis, expected in [
        ("horizontal", ODD[:, ::-1]),
        ("vertical", ODD[::-1]),
        ("both", ODD[::-1, ::-1]),
    ]:
        np.testing.assert_array_equal(operations.flip(ODD, axis), expected)
    luma = (ODD @ np.array([0.299, 0.587, 0.114]))[..., None]
    assert np.abs(operations.grayscale(ODD) - luma).max() <= 0.51


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 7)])
def test_tiny_and_long_images_pass_every_operation(size):
    image = picture(*size)
    for operation, params in [
        (operations.jpeg, (80, "rgb")),
        (operations.webp, (80, "bgr")),
        (operations.blur, (7,)),
        (operations.noise, (5.0, 1)),
        (operations.flip, ("both",)),
        (operations.rotate90, (2,)),
        (operations.grayscale, ()),
    ]:
        result = operation(image, *params)
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert operations.resize(image, 256, 256, "lanczos4").shape == (256, 256, 3)


def test_no_operation_changes_its_argument():
    before = ODD.copy()
    for name, params in [
        ("jpeg", (50, "bgr")),
        ("webp", (50, "rgb")),
        ("blur", (5,)),
        ("noise", (9.0, 2)),
        ("rotate90", (1,)),
        ("flip", ("both",)),
        ("grayscale", ()),
        ("pad", (60, 60)),
        ("crop", (1, 2, 3, 4)),
        ("resize", (9, 9, "area")),
    ]:
        operations.OPERATIONS[name](ODD, *params)
    np.testing.assert_array_equal(ODD, before)
