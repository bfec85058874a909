import numpy as np
import pytest
import torch

from rayapp.demo import generators
from rayapp.demo.generators import FAMILIES


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    steep = np.linspace(0, 255, 64)
    ramp = np.stack(np.meshgrid(steep, steep), -1).mean(-1)
    noise = np.random.default_rng(0).normal(0, 8, (4, 64, 64, 3))
    return np.clip(ramp[None, :, :, None] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_is_deterministic_and_learns(family, crops):
    weights = generators.train(family, crops, steps=3, seed=1)
    again = generators.train(family, crops, steps=3, seed=1)
    other = generators.train(family, crops, steps=3, seed=2)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], other[name]) for name in weights)
    longer = generators.train(family, crops, steps=15, seed=1)
    psnr = [
        generators.psnr_db(crops[0], generators.reconstruct(family, w)(crops[0]))
        for w in (weights, longer)
    ]
    assert psnr[1] > psnr[0]


def test_families_differ_only_in_how_they_upsample():
    networks = [generators.Generator(family) for family in FAMILIES]
    shapes = [{n: p.shape for n, p in net.down.named_parameters()} for net in networks]
    assert all(one == shapes[0] for one in shapes)
    kinds = {str(net.up) for net in networks}
    assert len(kinds) == len(FAMILIES)


def test_psnr_of_a_known_error():
    a = np.zeros((4, 4, 3), np.uint8)
    assert generators.psnr_db(a, a + 1) == pytest.approx(20 * np.log10(255))
