"""Evidence sheets say what was found, in words that fit it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rayapp.config.errors import UserError
from rayapp.explain.evidence_sheet import in_words, sheet
from rayapp.explain.gather import gather
from rayapp.explain.settings import ExplainSettings
from rayapp.jobs.explain import explain
from rayapp.models.verdicts import Judgement
from tests.detectors import saved_detector, tiny_detector
from tests.pictures import photographed, saved


def picture(text: str = "", size: tuple[int, int] = (300, 200)) -> bytes:
    """A PNG of photographic-like noise on a slope, with a text chunk if one is given."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 200, size[0])[None, :, None]
    pixels = (slope + rng.integers(0, 50, (size[1], size[0], 3))).astype(np.uint8)
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("parameters", text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


FOUND = gather(tiny_detector(), "d", picture(), "a.png")


def test_a_sheet_shows_every_ground() -> None:
    found = gather(tiny_detector(), "runs/d", picture(), "s3://b/photo <1>.png")
    html = sheet(found).html()
    assert "<h1>photo &lt;1&gt;.png</h1>" in html
    assert html.count("data:image/jpeg;base64,") == 2  # the picture, and the map over it
    for text in (
        tiny_detector().hash()[:8],
        "at most 768 px, JPEG quality 60",
        "with black bars to 16 : 9",
        "The file declares nothing. That is no sign of a real image",
        "How often it errs, nobody has counted",
        "libjpeg-turbo",
    ):
        assert text in html.replace("<wbr>", ""), text
    assert len(found.deliveries) == 5


def test_what_the_file_declares_stands_beside_and_a_conflict_is_named() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: x"
    plain, told = (gather(tiny_detector(), "d", picture(t), "a.png") for t in ("", text))
    assert told.judgement.probability == plain.judgement.probability
    assert "ai-generated" in sheet(told).html()
    says_real = Judgement(0.1, "real", "", 0.5)
    assert "But the file declares “ai-generated”" in in_words(replace(told, judgement=says_real))
    assert "declares" not in in_words(replace(plain, judgement=says_real))


def test_a_verdict_that_turns_with_the_delivery_is_said_in_the_first_lines() -> None:
    data = saved(Image.fromarray(photographed(300, 400, 0)), "PNG")
    detector = tiny_detector()
    (plain,) = detector.judge([data], stability="web")
    every = sorted(one.probability for one in plain.deliveries)
    assert (plain.p_min, plain.p_max) == (every[0], every[-1])
    middle = (every[0] + every[-1]) / 2
    found = gather(detector, "d", data, "a.png", threshold=middle)
    flips = found.judgement.flips
    assert flips
    assert found.judgement.verdict == "unsure"
    span = f"p from {every[0]:.3f} to {every[-1]:.3f}"
    assert f"unsure: depends on delivery: {span}" in in_words(found)
    assert f"{flips} of 4 deliveries flip it" in sheet(found).html()
    firm = gather(detector, "d", data, "a.png", threshold=1e-9)
    assert firm.judgement.flips == 0
    assert "delivery" not in in_words(firm)
    assert "The verdict stands however" in sheet(firm).html()


def test_the_raw_fields_of_the_metadata_are_shown() -> None:
    html = sheet(gather(tiny_detector(), "d", picture("a <b>\nSteps: 20, Seed: 1"), "a.png")).html()
    assert "a &lt;b&gt; Steps: 20, Seed: 1" in html
    assert "The fields of its metadata" not in sheet(FOUND).html()


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (Judgement(0.98, "synthetic", "", 0.5), "takes this image to be AI-generated"),
        (Judgement(0.4, "unsure", "detectors disagree", 0.5), "unsure: detectors disagree"),
        (Judgement(0.7, "Midjourney", "", None), "says Midjourney"),
        (Judgement(0.9, "synthetic", "uncalibrated", 0.5), "The detector is uncalibrated."),
        (
            Judgement(0.1, "synthetic", "as the file declares (C2PA, verified)", 0.5),
            "is AI-generated, as the file declares (C2PA, verified). The detector gives",
        ),
        (Judgement.failed("truncated"), "could not judge this image: truncated"),
    ],
)
def test_the_verdict_in_words(judged: Judgement, words: str) -> None:
    assert words in in_words(replace(FOUND, judgement=judged, deliveries=[]))


def test_each_image_has_its_page_and_a_broken_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "x.png", tmp_path / "a/x.png"):
        path.write_bytes(picture())
    (tmp_path / "broken.png").write_bytes(picture()[:200])
    settings = ExplainSettings(
        image=tuple(str(tmp_path / name) for name in ("x.png", "broken.png", "a/x.png")),
        detector=saved_detector(tmp_path / "d"),
        output=str(tmp_path / "out"),
    )
    run = explain(settings)
    assert run.counts == {"in": 3, "explained": 2, "failed": 1}
    assert sorted(p.name for p in (tmp_path / "out").glob("*.html")) == [
        "x.png-2.html",
        "x.png.html",
    ]
    assert "broken.png" in run.results["failures"][0]
    before = (tmp_path / "out/x.png.html").stat().st_mtime_ns
    assert explain(settings).counts == run.counts
    assert (tmp_path / "out/x.png.html").stat().st_mtime_ns == before


def test_a_sheet_stays_when_another_image_is_explained(tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / f"{'ü' * 125}.png"
    for path in (first, second):
        path.write_bytes(picture())
    more = {"detector": saved_detector(tmp_path / "d"), "output": str(tmp_path / "out")}
    explain(ExplainSettings(image=(str(first),), **more))
    with pytest.raises(UserError, match="which adds to what is there and removes nothing"):
        explain(ExplainSettings(image=(str(second),), **more))
    explain(ExplainSettings(image=(str(second),), overwrite=True, **more))
    pages = sorted(one.name for one in (tmp_path / "out").glob("*.html"))
    assert pages == ["a.png.html", f"{'ü' * 100}.html"]
