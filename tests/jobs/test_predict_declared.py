"""What files declare beside their scores, from predict to the gallery and the API."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.predict.summary import summary_lines
from tests.dataset.declared.files import A1111, exif
from tests.detectors import saved_detector
from tests.jobs.test_predict import run
from tests.pictures import photographed, saved


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture three times: with settings of a generator, of a camera, and bare."""
    saved_detector(tmp_path / "detector")
    images = tmp_path / "images"
    images.mkdir()
    picture = Image.fromarray(photographed(48, 60, 1))
    text = b"ASCII\0\0\0" + A1111.encode()
    (images / "made.png").write_bytes(saved(picture, "PNG", exif=exif({}, text)))
    (images / "taken.png").write_bytes(saved(picture, "PNG", exif=exif({271: "Canon"})))
    (images / "bare.png").write_bytes(saved(picture, "PNG"))
    return tmp_path


def lines(out: Path) -> dict[str, dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8-sig") as file:
        return {line["path"]: line for line in csv.DictReader(file)}


def test_it_stands_beside_and_a_conflict_comes_first(folder: Path) -> None:
    found = run(folder, input=str(folder / "images"), threshold=1e-6)  # all synthetic
    assert len({row["logit"] for row in found.values()}) == 1
    assert found["made.png"]["declared"] == "ai-generated"
    assert found["made.png"]["declared_by"].endswith("PNG eXIf UserComment, unverified")
    assert (found["bare.png"]["declared"], found["bare.png"]["declared_by"]) == ("nothing", "")
    rows = lines(folder / "out")
    assert next(iter(rows)) == "taken.png"
    assert rows["taken.png"]["conflict"] == "the file declares camera, the detector says synthetic"
    assert {one["verdict"] for one in rows.values()} == {"synthetic (uncalibrated)"}
    assert rows["made.png"]["conflict"] == ""
    assert "anyone can write it" in rows["made.png"]["declared_detail"]
    page = (folder / "out/gallery.html").read_text(encoding="utf-8")
    assert page.index("declares otherwise") < page.index("surest synthetic")
    told = json.loads((folder / "out/run.json").read_text())
    assert told["results"]["declared"] == {"ai-generated": 1, "camera": 1, "nothing": 1}
    said = summary_lines(told["counts"], told["results"])
    assert "the files declare: 1 ai-generated, 1 camera, 1 nothing" in said
    assert "1 against the detector, the first in scores.csv" in said
    first = next(line for line in said if line.startswith("look first at: "))
    assert "taken.png (p " in first
    assert "declares camera)" in first


def test_all_real_the_generated_one_is_the_conflict(folder: Path) -> None:
    run(folder, input=str(folder / "images"), threshold=1 - 1e-6)
    rows = lines(folder / "out")
    assert next(iter(rows)) == "made.png"
    assert rows["made.png"]["conflict"] == "the file declares ai-generated, the detector says real"
    assert rows["taken.png"]["conflict"] == rows["bare.png"]["conflict"] == ""


@pytest.mark.parametrize(("trust", "words"), [("any", "real"), ("signed", "synthetic")])
def test_the_rule_lets_a_declaration_decide(folder: Path, trust: str, words: str) -> None:
    found = run(folder, input=str(folder / "images"), threshold=1e-6, trust_declared=trust)
    rows = lines(folder / "out")
    assert rows["taken.png"]["verdict"].removesuffix(" (uncalibrated)") == words
    assert rows["bare.png"]["verdict"] == "synthetic (uncalibrated)"
    assert rows["taken.png"]["conflict"]  # said under every rule
    assert len({row["logit"] for row in found.values()}) == 1
    assert ("as the file declares" in rows["taken.png"]["reason"]) == (trust == "any")


def test_a_verified_signature_decides_where_signed_ones_do(folder: Path) -> None:
    pytest.importorskip("c2pa")
    from tests.dataset.declared.signed import action, authority, signed

    bare = saved(Image.fromarray(photographed(48, 60, 1)), "JPEG", quality=95)
    taken = signed(bare, "image/jpeg", [action("c2pa.created", "digitalCapture")])
    (folder / "images/signed.jpg").write_bytes(taken)
    (folder / "images/broken.jpg").write_bytes(taken[:-3] + b"\x15" + taken[-2:])
    (folder / "list.pem").write_text(authority()[0])
    given = {"input": str(folder / "images"), "threshold": 1e-6, "trust_declared": "signed"}
    run(folder, trust_list=str(folder / "list.pem"), **given)
    rows = lines(folder / "out")
    assert (rows["signed.jpg"]["verdict"], rows["signed.jpg"]["declared"]) == ("real", "camera")
    assert rows["broken.jpg"]["declared_by"].endswith(", broken")
    assert rows["broken.jpg"]["verdict"] == "synthetic (uncalibrated)"
    run(folder, "untrusted", **given)
    assert lines(folder / "untrusted")["signed.jpg"]["verdict"] == "synthetic (uncalibrated)"


def test_the_api_says_the_same(folder: Path) -> None:
    detector = load_detector(folder / "detector")
    images = [folder / "images" / name for name in ("made.png", "taken.png", "bare.png")]
    made, taken, bare = detector.judge(images, threshold=1e-6)
    assert (made.declared, taken.declared, bare.declared) == ("ai-generated", "camera", "nothing")
    assert taken.conflict == "the file declares camera, the detector says synthetic"
    assert made.probability == taken.probability == bare.probability
    (trusted,) = detector.judge([images[1]], threshold=1e-6, trust_declared="any")
    assert (trusted.verdict, trusted.reason[:22]) == ("real", "as the file declares (")
    pixels = Image.open(images[0])
    of_bytes, of_pixels, missing = detector.judge(
        [images[0].read_bytes(), pixels, folder / "none.png"]
    )
    assert (of_bytes.declared, of_pixels.declared, missing.declared) == (
        "ai-generated", "nothing", "nothing",
    )  # fmt: skip
    assert missing.error


def test_of_disturbed_pixels_the_file_says_nothing(folder: Path) -> None:
    run(folder, input=str(folder / "images"), perturbation="jpeg-grid")
    rows = lines(folder / "out")
    assert {one["declared"] for one in rows.values()} == {""}
