import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.models.backbones import create_backbone
from rayapp.models.detector import Detector
from rayapp.models.detector_spec import Architecture, HeadSettings, Labels
from rayapp.models.encoder import ClassificationHead, Encoder
from rayapp.models.networks import build_network
from tests.detectors import tiny_detector
from tests.models.test_folder import calibration, make_detector, with_spec
from tests.pictures import photographed


@pytest.fixture
def pixels() -> np.ndarray:
    return photographed(70, 45, 2)


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_paths_bytes_pil_and_arrays_score_alike(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(as_png(pixels))
    forms = [pixels, as_png(pixels), Image.fromarray(pixels), path, str(path)]
    scores = make_detector().logits(forms)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)


@pytest.mark.parametrize("view", ["centre", "five", "tiles", "resize"])
def test_scores_do_not_depend_on_the_batch(view: str) -> None:
    generator = np.random.default_rng(3)
    images = [
        generator.integers(0, 256, (h, w, 3), np.uint8)
        for h, w in [(40, 70), (16, 16), (64, 33), (100, 90)]
    ]
    detector = make_detector(view=view)
    together = detector.logits(images)
    for batch_size in (1, 3):
        apart = detector.logits(images[::-1], batch_size=batch_size)[::-1]
        np.testing.assert_allclose(apart, together, atol=1e-5)
    assert np.ptp(together) > 1e-4


def test_logit_is_the_mean_over_views(pixels: np.ndarray) -> None:
    detector = make_detector(view="five")
    views = detector.preprocess(pixels)
    assert views.shape == (5, 3, 32, 32)
    detector.network.eval()
    with torch.inference_mode():
        expected = detector.network(views).mean()
    assert detector.logits([pixels])[0] == pytest.approx(float(expected), abs=1e-6)
    assert detector.features([pixels]).shape == (1, detector.network.encoder.num_features)


def test_probability_is_calibrated_where_the_detector_is(pixels: np.ndarray) -> None:
    detector = make_detector()
    z = float(detector.logits([pixels])[0])
    assert detector.probability([pixels])[0] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)
    calibrated = with_spec(detector, calibration=calibration(detector, slope=2.0))
    expected = 1 / (1 + np.exp(-(2 * z + 0.5)))
    assert calibrated.probability([pixels])[0] == pytest.approx(expected, abs=1e-6)
    assert calibrated.probability([pixels]).dtype == np.float32


def test_no_images_no_scores() -> None:
    assert make_detector().probability([]).shape == (0,)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("image.png", "give a list"),
        ([b"nonsense"], "image 0: text, not an image"),
        ([np.zeros((4, 4, 5), np.uint8)], r"image 0: an array \[H, W\] or"),
        ([np.zeros((4, 4, 3), np.float32)], r"image 0: RGB uint8 \[H, W, 3\] is wanted"),
        ([np.zeros((4, 4), np.int32)], "image 0"),
        ([np.zeros((0, 4, 3), np.uint8)], "image 0"),
        ([3], "image 0: a path, bytes, PIL image or array, not int"),
        (["nowhere.png"], r"image 0 \(nowhere.png\): No such file"),
    ],
)
def test_what_is_no_image_is_named(images, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_detector().logits(images)


def test_strides_that_are_not_the_networks_are_refused() -> None:
    detector = make_detector()
    wrong = detector.spec.model_copy(update={"strides": {"blocks.0.0": (2, 2)}})
    with pytest.raises(UserError, match=r"strides differ: blocks\.0\.0 is \(1, 1\)"):
        Detector(detector.network, wrong)


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, rayapp; assert rayapp.load_detector; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_judging_names_the_bad_image_and_harms_no_other(pixels: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(as_png(pixels)[:200])
    cut = Image.open(tmp_path / "cut.png")  # not read yet
    detector = make_detector()
    images = [pixels, tmp_path / "none.png", as_png(pixels), b"text", cut, None, pixels[None]]
    found = detector.judge(images, batch_size=2)  # type: ignore[arg-type]
    assert len(found) == len(images)
    assert [one.error.partition(":")[0] for one in found] == [
        "",
        "No such file or directory",
        "",
        "text, not an image",
        "corrupt or truncated",
        "a path, bytes, PIL image or array, not NoneType",
        "an array [H, W] or [H, W, 1 to 4] is wanted, not [1, 70, 45, 3]",
    ]
    (p,) = detector.probability([pixels])
    for one in (found[0], found[2]):
        assert one.probability == pytest.approx(float(p), abs=1e-6)
        assert one.verdict == ("synthetic" if p >= 0.5 else "real")
        assert (one.reason, one.threshold) == ("uncalibrated", 0.5)
    assert {(one.verdict, one.probability) for one in found if one.error} == {("", None)}
    assert detector.judge([b"text"])[0].error == "text, not an image"
    assert detector.judge([]) == []
    assert detector.judge([pixels], threshold=1e-9)[0].verdict == "synthetic"
    with pytest.raises(UserError, match="lies between 0 and 1"):
        detector.judge([pixels], threshold=2)
    with pytest.raises(UserError, match="list of images"):
        detector.judge(str(tmp_path / "none.png"))  # type: ignore[arg-type]


def test_judging_decides_as_calibrated(pixels: np.ndarray) -> None:
    plain = make_detector()
    found = calibration(plain).model_copy(update={"threshold": 0.9, "band": (0.0, 1.0)})
    (one,) = with_spec(plain, calibration=found).judge([pixels])
    assert (one.verdict, one.threshold) == ("unsure", 0.9)
    assert "0 … 1" in one.reason
    assert one.probability is not None
    several = make_detector(num_outputs=3, labels=Labels(column="generator", classes=tuple("abc")))
    (named,) = several.judge([pixels])
    assert named.verdict in several.spec.labels.classes
    assert named.probability == pytest.approx(float(several.probability([pixels]).max()), abs=1e-6)


def test_weights_are_drawn_in_the_same_order_as_ever() -> None:
    """Backbone, head, sub-networks: a seed trains what it trained before."""
    head = HeadSettings(hidden=4)
    architecture = Architecture(backbone="highpass-small", tap_depths=(0.67,), head=head)
    torch.manual_seed(5)
    backbone = create_backbone("highpass-small", False, tap_depths=(0.67,))
    wanted = ClassificationHead(backbone.num_features, hidden=4).state_dict()
    taps = Encoder(backbone).subnetworks.state_dict()
    torch.manual_seed(5)
    network = build_network(architecture)
    torch.testing.assert_close(network.head.state_dict(), wanted, rtol=0, atol=0)
    torch.testing.assert_close(network.encoder.subnetworks.state_dict(), taps, rtol=0, atol=0)


def test_an_image_given_again_is_read_once_and_any_iterable_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pixels_HWC = photographed(64, 64)
    file = tmp_path / "a.png"
    Image.fromarray(pixels_HWC).save(file)
    read: list[object] = []
    keep = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or keep(self))
    detector = tiny_detector()
    judged = detector.judge(iter([file, str(file), pixels_HWC, "gone.png"] * 50))
    assert len(judged) == 200
    assert len([one for one in read if one == file]) <= 2  # its pixels, and what it declares
    assert judged[0].probability == judged[1].probability == pytest.approx(judged[2].probability)
    assert judged[:4] == judged[-4:]
    assert judged[3].error
    assert detector.judge([]) == []
