import csv
from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.config.packaged import shipped_names
from rayapp.dataset.reference_figures import MEAN, load_published
from rayapp.dataset.suites import load_suite

_SPELT = {"DALL  E 3": "DALL·E 3"}


def test_every_published_result_stands_in_the_file(published: Path):
    rows = list(csv.DictReader((published / "published_results.csv").read_text().splitlines()))
    assert len(rows) > 150
    known = load_published()
    for row in rows:
        pair = known.suites[row["suite"]].figures[row["detector"]][
            _SPELT.get(row["slice"], row["slice"])
        ]
        assert pair == (float(row["balanced_accuracy"]), float(row["roc_auc"])), row


def test_means_are_those_of_their_slices():
    for name, suite in load_published().suites.items():
        for detector, figures in suite.figures.items():
            slices = [pair for slice_name, pair in figures.items() if slice_name != MEAN]
            mean = sum(pair[0] or 0 for pair in slices) / len(slices)
            assert figures[MEAN][0] == pytest.approx(mean, abs=2e-4), (name, detector)


def test_a_suite_has_the_slices_of_its_published_table():
    for name in shipped_names("configs/suites"):
        suite = load_suite(name)
        if suite.published:
            assert list(suite.slices) == [
                s for s in load_published().pairs(suite.published, "imaginet") if s != MEAN
            ]


def test_inference_times_are_named_as_such():
    known = load_published()
    assert "milliseconds" in known.inference_time.about
    assert known.inference_time.milliseconds["imaginet"] == 25.10
    remarks = " ".join(known.suites["ImagiNet_Model_Identification"].remarks)
    assert "inference time" in remarks


def test_an_unknown_detector_is_named():
    with pytest.raises(UserError, match=r"'mine' is unknown \(known: imaginet"):
        load_published().pairs("ImagiNet", "mine")
