import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rayapp.audit.inspect import AuditRows, container, inspect
from rayapp.storage.uris import open_store
from tests.pictures import smooth

PHOTO = Image.fromarray(
    (np.add.outer(np.arange(40) * 5, np.arange(50) * 4)[:, :, None] + [0, 9, 18]).astype(np.uint8)
)


def saved(kind, image=PHOTO, **options):
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("quality", [1, 50, 75, 92, 100])
def test_the_quality_of_a_jpeg_is_read_off_its_tables(quality):
    facts = container(saved("JPEG", quality=quality))
    assert facts["quality"] == quality
    assert len(facts["tables"]) == 12


def test_other_tables_have_no_quality_but_a_name():
    strange = container(saved("JPEG", qtables=[[7] * 64, [9] * 64]))
    assert strange["quality"] is None
    assert strange["tables"] != container(saved("JPEG", quality=75))["tables"]


def test_containers_and_metadata_are_named():
    assert container(saved("WEBP", lossless=True))["container"] == "WEBP lossless"
    assert container(saved("WEBP", quality=80))["container"] == "WEBP lossy"
    assert container(saved("WEBP", lossless=True, icc_profile=b"x" * 99)) == {
        "container": "WEBP lossless",
        "metadata": "ICC",
    }
    exif = Image.Exif()
    exif[0x0110] = "camera"
    assert container(saved("JPEG", exif=exif))["metadata"] == "EXIF"
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, 20 steps")
    assert container(saved("PNG", pnginfo=info))["metadata"] == "text parameters"


def test_facts_of_sound_and_broken_files(tmp_path):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    (tmp_path / "cut.png").write_bytes(saved("PNG")[:-200])
    wide = Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30)
    (tmp_path / "wide.png").write_bytes(saved("PNG", wide))
    work = AuditRows(open_store(tmp_path))
    work.setup()
    rows = work.batch([{"path": name} for name in ("a.png", "cut.png", "wide.png", "gone.png")])
    sound, cut, deep, gone = rows
    assert sound["status"] == "ok"
    assert (sound["width"], sound["height"], sound["bit_depth"]) == (50, 40, 8)
    assert len(sound["perceptual_hash"]) == len(sound["sha256"]) == 64
    assert sound["bytes"] == len(saved("PNG"))
    assert deep["bit_depth"] == 16
    assert cut["status"] == "failed"
    assert len(cut["sha256"]) == 64  # which file it was
    assert gone["error"] == "no such file"
    assert inspect(saved("PNG"))["format"] == "PNG"


def test_subsampling_is_named_and_pixels_are_measured():
    assert container(saved("JPEG", subsampling=1))["subsampling"] == "4:2:2"
    rng = np.random.default_rng(0)
    for sigma in (2.0, 8.0):
        luma = np.clip(rng.normal(120, sigma, (200, 200, 1)), 0, 255)
        flat = Image.fromarray(np.repeat(luma, 3, axis=2).round().astype(np.uint8))
        facts = inspect(saved("PNG", flat))
        assert facts["noise"] == pytest.approx(sigma, rel=0.05)
        assert facts["brightness"] == pytest.approx(120, abs=0.5)
        assert facts["chroma"] < 0.5
    assert inspect(saved("PNG", smooth(64, 96)))["noise"] < 0.5, "a slope is no noise"
