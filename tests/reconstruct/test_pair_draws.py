import math

import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.reconstruct.pair_draws import PairDraws

# Window, noise's share and seed, share of the reconstruction.
GOLDEN = ((240, 80, 128, 128), 0.402782, 3106755325607854218, 0.986328)


def draws(**more):
    given = {"seed": 0, "side": 128, "latent_noise": 0.5, "blend": 0.5, "blend_least": 0.3}
    return PairDraws(**given | {"blend_in": "both"} | more)


@pytest.mark.parametrize("unit_HW", [(8, 8), (16, 16), (8, 32)])
def test_a_cut_lies_on_the_grid_and_in_the_image(unit_HW):
    tops = set()
    for at in range(200):
        window = draws().window((131 + at, 300), unit_HW, 8, f"{at}.jpg")
        assert window.top % unit_HW[0] == window.left % unit_HW[1] == 0
        assert (window.height, window.width) == (128, 128)
        assert window.top + window.height <= 131 + at
        assert window.left + window.width <= 300
        tops.add(window.top)
    assert len(tops) > 3


def test_a_small_image_is_cut_to_whole_units_or_refused_with_its_size():
    assert draws().window((100, 50), (16, 16), 8, "a")[2:] == (96, 48)
    assert draws().window((100, 50), (8, 8), 20, "a")[2:] == (80, 40)
    with pytest.raises(UserError, match=r"15×50 px .* a pair has 16 px at least"):
        draws().window((15, 50), (16, 16), 8, "a")


def test_strength_spans_its_range_and_hangs_on_id_and_seed_alone():
    many = [draws().strength(f"{at}") for at in range(600)]
    noise = np.array([one.noise.share for one in many])
    assert 0 <= noise.min() < 0.02 < 0.48 < noise.max() <= 0.5
    mixed = [one for one in many if one.mix]
    assert abs(len(mixed) / 600 - 0.5) < 4 * math.sqrt(0.25 / 600)
    assert all(one.share == 1 for one in many if not one.mix)
    shares = [one.share for one in mixed]
    assert 0.3 <= min(shares) < 0.35 < 0.95 < max(shares) <= 1
    ops = {one.mix[0].op for one in mixed}
    assert ops == {"blend", "blend_band"}
    assert draws().strength("7") == many[7]
    assert draws(seed=1).strength("7") != many[7]


def test_what_is_not_asked_for_is_not_drawn():
    plain = draws(latent_noise=0.0, blend=0.0).strength("a")
    assert (plain.share, plain.noise.share, plain.mix) == (1.0, 0.0, ())
    for kind, op in (("pixels", "blend"), ("bands", "blend_band")):
        found = [draws(blend=1.0, blend_in=kind).strength(f"{at}") for at in range(30)]
        assert {one.mix[0].op for one in found} == {op}


def test_draws_are_those_of_the_first_day():
    one = draws(blend=1.0).strength("images/0001.jpg")
    window = draws().window((400, 300), (16, 16), 8, "images/0001.jpg")
    assert (window, round(one.noise.share, 6), one.noise.seed, round(one.share, 6)) == GOLDEN
