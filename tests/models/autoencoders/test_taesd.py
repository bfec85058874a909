import json

import pytest
import torch

from rayapp.config.errors import UserError
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec, stored_autoencoder
from rayapp.models.autoencoders.round_trip import open_autoencoder
from rayapp.models.autoencoders.taesd import Taesd, load_taesd
from rayapp.models.autoencoders.tiling import in_tiles
from rayapp.models.foreign import open_checkpoint
from tests.pictures import smooth


def network_of(folder):
    parts = [
        open_checkpoint((folder / f"taef2_{part}.safetensors").read_bytes(), part)
        for part in ("encoder", "decoder")
    ]
    return load_taesd(*parts, latent_channels=32, middle_blocks=True, where="taef2")


def picture_NCHW(height, width, seed=0):
    """Smooth, with noise: edges of tiles would show."""
    smooth_HWC = torch.from_numpy(_array(smooth(height, width))).float() / 255
    noise_HWC = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(seed))
    return (smooth_HWC + 0.05 * noise_HWC).clamp(0, 1).permute(2, 0, 1)[None]


def _array(image):
    import numpy as np

    return np.asarray(image).copy()


@torch.inference_mode()
def test_the_published_weights_give_the_golden_round_trip(taef2_folder):
    golden = json.loads((taef2_folder / "taef2_golden.json").read_text())
    i, j = torch.arange(64.0)[:, None], torch.arange(96.0)[None]
    planes = [0.5 + 0.4 * torch.sin(j / 7 + c) * torch.cos(i / 5 - c) for c in range(3)]
    images = torch.stack(planes)[None]
    network = network_of(taef2_folder)
    latents = network.encode(images)
    output = network.decode(latents)
    assert list(latents.shape) == golden["latent_shape"]
    assert list(output.shape) == golden["output_shape"]
    for found, name in ((latents, "latent"), (output, "output")):
        wanted = torch.tensor(golden[f"{name}_first8"])
        assert (found.flatten()[:8] - wanted).abs().max() < 1e-3
        assert found.sum().item() == pytest.approx(golden[f"{name}_sum"], rel=1e-3)
    change = (output - images).abs().mean().item()
    assert change == pytest.approx(golden["mean_abs_change"], abs=1e-3)


@torch.inference_mode()
def test_tiles_show_no_seam(taef2_folder):
    network, images = network_of(taef2_folder), picture_NCHW(96, 176)
    whole = network.decode(network.encode(images))
    tiled = network.decode(network.encode(images, 88), 88)
    assert whole.std() > 0.1
    assert (tiled - whole).abs().max() * 255 < 0.1  # of 2 levels that are allowed


@torch.inference_mode()
@pytest.mark.parametrize("middle_blocks", [False, True])
def test_a_tile_looks_no_further_than_its_halo_and_nearly_as_far(middle_blocks):
    torch.manual_seed(0)
    network = Taesd(4, middle_blocks).double().eval()
    for weights in network.parameters():
        weights.copy_(weights.abs() if weights.ndim > 1 else 0)  # what comes in goes on, unhindered
    for local, size, unit, scale in (
        (network.encoder[:11], (1, 3, 8, 336), 8, (1, 8)),
        (network.decoder[6:], (1, 64, 1, 42), 1, (8, 1)),
    ):
        images = torch.rand(size, dtype=torch.float64)
        whole = local(images)
        errors = {
            units: in_tiles(
                local, images, side=21 * unit, halo=units * unit, unit=unit, scale=scale
            )
            .div(whole)
            .sub(1)
            .abs()
            .max()
            for units in (9, 7)
        }
        assert errors[9] < 1e-12
        assert errors[7] > 1e-12, "a smaller halo shows: the test sees seams"


@torch.inference_mode()
@pytest.mark.parametrize(("name", "channels"), [("taesd", 4), ("taesd3", 16), ("taef1", 16)])
def test_each_of_the_family_opens_by_its_name(name, channels, tmp_path):
    torch.manual_seed(0)
    network = Taesd(channels, middle_blocks=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), tmp_path / f"{name}_{part}.pth")
    stored = stored_autoencoder(load_autoencoder_spec(name), str(tmp_path))
    opened = open_autoencoder(stored)
    pixels_HWC = _array(smooth(24, 40))
    found_HWC = opened(pixels_HWC)
    images = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None].float() / 255
    wanted = network.decode(network.encode(images))
    assert found_HWC.shape == (24, 40, 3)
    assert (torch.from_numpy(found_HWC) / 255 - wanted[0].permute(1, 2, 0)).abs().max() < 0.003


def test_weights_of_another_network_are_named(tmp_path):
    network = Taesd(4, middle_blocks=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), tmp_path / f"taef2_{part}.pth")
    stored = stored_autoencoder(load_autoencoder_spec("taef2"), str(tmp_path))
    with pytest.raises(UserError, match="lacks 12 tensors of the network"):
        open_autoencoder(stored)


def test_weights_that_are_not_there_are_asked_for(tmp_path):
    spec = load_autoencoder_spec("taesd")
    with pytest.raises(
        UserError, match=r"holds no taesd_encoder\.safetensors or taesd_encoder\.pth"
    ):
        stored_autoencoder(spec, str(tmp_path))
