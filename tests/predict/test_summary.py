import pytest

from rayapp.models.basis import error_rates, threshold_line
from rayapp.models.verdicts import Judge
from rayapp.predict.summary import summary_lines
from tests.models.test_verdicts import calibration

OBSERVED = {
    "num_real": 300,
    "num_synthetic": 280,
    "false_synthetic": 3,
    "false_real": 20,
    "unsure_real": 12,
    "unsure_synthetic": 0,
}


def test_the_errors_of_a_detector_in_words():
    said = error_rates(Judge("centre-32", calibration(observed=OBSERVED)))
    assert "Of 100 real images like those it was calibrated on, it calls about 1 synthetic" in said
    assert "3 of 300 counted; with 95 % confidence no more than 2.6" in said
    assert "and is unsure of about 4" in said
    assert "Of 100 synthetic ones it calls about 7 real" in said


@pytest.mark.parametrize(
    ("wrong", "total", "said", "bound"),
    # Clopper and Pearson: no error among n bounds the share by 1 - 0.05 ** (1 / n).
    [
        (0, 24, "calls none synthetic", "12"),
        (1, 400, "calls fewer than one synthetic", "1.2"),
        (5, 5, "calls about 100 synthetic", "100"),
    ],
)
def test_few_images_say_little(wrong: int, total: int, said: str, bound: str):
    seen = OBSERVED | {"num_real": total, "false_synthetic": wrong, "unsure_real": 0}
    text = error_rates(Judge("centre-32", calibration(observed=seen)))
    assert said in text
    assert f"({wrong} of {total} counted; with 95 % confidence no more than {bound})" in text


def test_where_nobody_has_counted_the_page_says_so():
    assert "carries no calibration" in error_rates(Judge("centre-32"))
    assert "on 10 images does not say" in error_rates(Judge("centre-32", calibration()))
    other = Judge("centre-32", calibration(observed=OBSERVED), threshold=0.9)
    assert "from p ≥ 0.9 on, nobody has counted" in error_rates(other)
    assert "does not say" in error_rates(Judge("centre-32", classes=("a", "b")))


def test_the_threshold_is_said_with_where_it_comes_from():
    assert threshold_line(Judge("c")) == "synthetic from p ≥ 0.5 (uncalibrated)"
    assert threshold_line(Judge("c", threshold=0.3)) == "synthetic from p ≥ 0.3 (--threshold)"
    banded = "synthetic from p ≥ 0.7, real below 0.4, unsure between (as calibrated)"
    assert threshold_line(Judge("c", calibration())) == banded
    plain = threshold_line(Judge("c", calibration(band=None)))
    assert plain == "synthetic from p ≥ 0.7 (as calibrated)"


def test_the_summary_counts_all_and_names_what_to_look_at():
    results = {
        "verdicts": {"synthetic": 1_031, "real": 80, "unsure": 0},
        "threshold": "synthetic from p ≥ 0.5",
        "look_at_first": ["a.jpg (p 0.99)", "b.jpg (p 0.98)"],
        "left_out": {".txt": 1_000, ".DS_Store": 2},
    }
    nothing = {"nothing_to_judge": {"nothing but noise": 2, "too few pixels": 1}}
    assert summary_lines({"failed": 2}, results | nothing)[1] == (
        "unsure whatever the score: 2 nothing but noise, 1 too few pixels"
    )
    assert summary_lines({"failed": 2}, results) == [
        "1,031 synthetic, 80 real, 0 unsure, 2 not scored; synthetic from p ≥ 0.5",
        "look first at: a.jpg (p 0.99), b.jpg (p 0.98)",
        "left out, no images: 1,000 .txt, 2 .DS_Store",
    ]
