"""How firm a verdict is over the ways in which a picture is delivered."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.models.delivered import Deliveries
from rayapp.models.verdicts import Judge
from rayapp.predict.deliveries import see_delivered, see_whole
from rayapp.predict.score import make_scorer
from rayapp.predict.summary import summary_lines
from rayapp.transforms.perturbations import load_perturbation
from rayapp.transforms.plans import apply_each
from tests.detectors import saved_detector, tiny_detector
from tests.jobs.test_predict import run
from tests.models.test_verdicts import calibration
from tests.pictures import photographed, saved
from tests.predict.test_gallery import in_groups


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved_detector(tmp_path / "detector")
    (tmp_path / "images").mkdir()
    for seed in range(3):
        picture = saved(Image.fromarray(photographed(600 + 200 * seed, 900, seed)), "PNG")
        (tmp_path / f"images/{seed}.png").write_bytes(picture)
    return tmp_path


def lines(out: Path) -> dict[str, dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8-sig") as file:
        return {line["path"]: line for line in csv.DictReader(file)}


def test_each_delivery_is_scored_as_the_perturbation_makes_it(folder: Path) -> None:
    given = {"input": str(folder / "images"), "threads": 1}
    plain, firm = run(folder, **given), run(folder, "firm", stability="web", **given)
    detector = load_detector(folder / "detector")
    deliveries = load_perturbation("deliveries")
    for name, row in firm.items():
        assert row["logit"] == pytest.approx(plain[name]["logit"], abs=1e-6)
        assert plain[name]["delivered_logits"] is None
        pixels = np.array(Image.open(folder / "images" / name))
        key = sha256((folder / "images" / name).read_bytes())
        plans = deliveries.draw(pixels.shape[:2], key, 42)
        made = [one for _, one in apply_each(plans, pixels)]
        assert len(made) == 4
        np.testing.assert_allclose(row["delivered_logits"], detector.logits(made), atol=1e-5)
    for name, line in lines(folder / "firm").items():
        every = [firm[name]["logit"], *firm[name]["delivered_logits"]]
        p = 1 / (1 + np.exp(-np.array(every)))
        assert float(line["p_min"]) == pytest.approx(p.min(), abs=1e-6)
        assert float(line["p_max"]) == pytest.approx(p.max(), abs=1e-6)
    assert {line["p_min"] for line in lines(folder / "out").values()} == {""}


def test_a_verdict_that_flips_is_unsure(folder: Path) -> None:
    images = str(folder / "images")
    found = run(folder, input=images, stability="web")
    every = [one for row in found.values() for one in (row["logit"], *row["delivered_logits"])]
    middle = 1 / (1 + np.exp(-float(np.median(every))))
    run(folder, "cut", input=images, stability="web", threshold=middle)
    rows = lines(folder / "cut")
    flipped = [line for line in rows.values() if int(line["flips"])]
    assert flipped
    for line in rows.values():
        low, high = float(line["p_min"]), float(line["p_max"])
        assert (line["verdict"] == "unsure") == (int(line["flips"]) > 0) == (low < middle <= high)
    expected = f"depends on delivery: p from {float(flipped[0]['p_min']):.3f} to "
    assert flipped[0]["reason"].startswith(expected)
    flips = json.loads((folder / "cut/run.json").read_text())["results"]["flips"]
    assert flips == len(flipped)
    told = summary_lines(
        {"failed": 0}, json.loads((folder / "cut/run.json").read_text())["results"]
    )
    assert f"{flips} depend on delivery, and are unsure" in told
    groups = in_groups((folder / "cut/gallery.html").read_text())
    assert groups["depends on delivery"] == flips
    # judge says the same of the file itself.
    one = flipped[0]["path"]
    detector = load_detector(folder / "detector")
    (judged,) = detector.judge([folder / "images" / one], threshold=middle, stability="web")
    assert (judged.verdict, judged.flips) == ("unsure", int(flipped[0]["flips"]))
    assert judged.reason == flipped[0]["reason"]
    assert judged.p_min == pytest.approx(float(flipped[0]["p_min"]), abs=1e-5)
    run(folder, "sure", input=images, stability="web", threshold=1e-9)
    assert {line["flips"] for line in lines(folder / "sure").values()} == {"0"}


def test_within_the_band_nothing_flips() -> None:
    judge = Judge("c", calibration())  # unsure from 0.4 to 0.7
    verdicts = judge.of(np.array([-3.0, -3.0, 0.0]))
    firm = judge._firm(verdicts, [[0.0, -2.0], [3.0, -3.0], [3.0, -3.0]])
    assert firm.words == ["real", "unsure", "unsure"]
    assert [one.flips for one in firm.spans] == [0, 1, 0]
    assert firm.reasons[1].startswith("depends on delivery: p from 0.047 to 0.953")


def test_an_input_that_is_the_same_to_the_bit_is_scored_once() -> None:
    scorer = make_scorer(tiny_detector(), bf16=False)
    pixels = photographed(300, 400, 0)
    seen = see_delivered(scorer, pixels, Deliveries.load(), "key")
    assert seen.delivered[-1] is None  # black bars at the sides: the middle is as it was
    assert len(seen.each) == 4
    scored = scorer.scored(seen.each)
    found = [logits[0] for logits in seen.logits_of(scored)]
    every = [see_whole(scorer, one) for _, one in Deliveries.load().of(pixels, "key")]
    np.testing.assert_allclose(found, [one[0] for one in scorer.score(every)], atol=1e-6)


def test_what_has_no_single_verdict_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="leave --perturbation out"):
        run(folder, input=str(folder / "images"), stability="web", perturbation="web")
