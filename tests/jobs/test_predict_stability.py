"""How firm a verdict is over the ways in which a picture is delivered."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.verdicts import Judge
from rayapp.transforms.perturbations import load_perturbation
from rayapp.transforms.plans import apply_each
from tests.detectors import saved_detector
from tests.jobs.test_predict import run
from tests.models.test_verdicts import calibration
from tests.pictures import photographed, saved


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
        plans = deliveries.draw(pixels.shape[:2], name, 42)
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
    run(folder, "sure", input=images, stability="web", threshold=1e-9)
    assert {line["flips"] for line in lines(folder / "sure").values()} == {"0"}


def test_within_the_band_nothing_flips() -> None:
    judge = Judge("c", calibration())  # unsure from 0.4 to 0.7
    verdicts = judge.of(np.array([-3.0, -3.0, 0.0]))
    firm = judge._firm(verdicts, [[0.0, -2.0], [3.0, -3.0], [3.0, -3.0]])
    assert firm.words == ["real", "unsure", "unsure"]
    assert [one.flips for one in firm.spans] == [0, 1, 0]
    assert firm.reasons[1].startswith("depends on delivery: p from 0.047 to 0.953")


def test_what_has_no_single_verdict_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="leave --perturbation out"):
        run(folder, input=str(folder / "images"), stability="web", perturbation="web")
