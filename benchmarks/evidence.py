"""Does a map of evidence show where the generated part of a picture is? Pastes into photographs.

A frozen CLIP ViT-B/16 with a linear head on the mean of its patches is trained on half of a real
set: half of the families, half of the real images. Of the other half, a quarter of a generated
picture is pasted into each of 100 photographs, at the same place, and the whole is compressed as
JPEG 90; the map of `Detector.evidence` is then held against the mask, pixel by pixel, as ROC AUC.
Beside it, on fewer pastes: a head of random weights, and a quarter of another photograph, which no
map should find.

Features and the maps' figures are kept under --kept as they are made: a run that was cut off, or is
run again, goes on from there.

Command: python -m benchmarks.evidence REALSET --backbone-weights FILE [--quick]
Last line: JSON with image_auc (of whole pictures of the other half), map_auc, map_auc_low (5 % of
the pastes are worse), map_auc_photograph_pasted, map_auc_random_weights.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.real_set import Picture, read_real_set
from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, decode, pixel_sha256, sha256
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector, DetectorSpec, build_network
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.preprocessing import preprocess
from rayapp.models.pretrained import read_weights
from rayapp.run.progress import Progress
from rayapp.transforms.operations import jpeg, resize

BACKBONE = "vit_base_patch16_clip_quickgelu_224.openai"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE, QUARTER, QUALITY = 448, 224, 90
LAYERS = (5, 8)  # middle blocks: what generators leave shows there
RIDGE = 1e-2
Pixels = NDArray[np.uint8]


class Kept:
    """Arrays in a folder, under the hash of all that they depend on."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self._folder = folder
        self._base = f"{sha256(weights.read_bytes())} {SIDE} {QUARTER} {QUALITY} {LAYERS}"

    def array(self, key: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The array of that key, made where it is not there."""
        file = self._folder / f"{hashlib.sha256(f'{self._base} {key}'.encode()).hexdigest()}.npy"
        if file.exists():
            kept: NDArray[np.float32] = np.load(file)
            return kept
        found = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with part.open("wb") as sink:
            np.save(sink, found)
        part.rename(file)
        return found


def square(picture: Picture, folder: Path) -> Pixels | None:
    """The middle of a picture, its shorter side made 448 px; None where it cannot be read."""
    try:
        pixels_HWC = decode((folder / picture.path).read_bytes()).pixels_HWC
    except ImageError:
        return None
    height, width = pixels_HWC.shape[:2]
    scale = SIDE / min(height, width)
    size = (max(SIDE, round(height * scale)), max(SIDE, round(width * scale)))
    pixels_HWC = resize(pixels_HWC, *size, "area" if scale < 1 else "lanczos4")
    top, left = ((side - SIDE) // 2 for side in size)
    return np.ascontiguousarray(pixels_HWC[top : top + SIDE, left : left + SIDE])


def made_detector(weights: Path) -> Detector:
    """The frozen backbone under a head that is still to be set."""
    head = HeadSettings(norm="batch", hidden=0, pool="mean", layers=LAYERS)
    architecture = Architecture(backbone=BACKBONE, head=head)
    network = build_network(architecture, weights=read_weights(weights.read_bytes(), str(weights)))
    seen = Preprocessing(size=QUARTER, mean=MEAN, std=STD)
    strides = network.encoder.backbone.strides()
    return Detector(
        network.eval(), DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    )


def network_of(detector: Detector) -> Any:
    """The detector's own network."""
    return detector.network


def features(detector: Detector, squares: Sequence[Pixels], title: str, kept: Kept) -> torch.Tensor:
    """Of each square's four quarters the head's input [N, 4, F]."""

    def made(pixels_HWC: Pixels) -> NDArray[np.float32]:
        quarters = [
            preprocess(pixels_HWC[y : y + QUARTER, x : x + QUARTER], detector.spec.preprocessing)
            for y in (0, QUARTER)
            for x in (0, QUARTER)
        ]
        with torch.inference_mode():
            return np.asarray(network_of(detector).features(torch.cat(quarters)).numpy())

    found = []
    with Progress(title, len(squares), unit="images") as progress:
        for pixels_HWC in squares:
            key = f"features {pixel_sha256(pixels_HWC)}"
            found.append(kept.array(key, lambda one=pixels_HWC: made(one)))  # type: ignore[misc]
            progress.update()
    return torch.from_numpy(np.stack(found))


def fit_head(detector: Detector, features_MF: torch.Tensor, origins_M: torch.Tensor) -> None:
    """Ridge logistic regression on standardised features, put into the head."""
    mean, var = features_MF.mean(0), features_MF.var(0)
    inputs = (features_MF - mean) / (var + 1e-5).sqrt()
    weight = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        logits = inputs @ weight + bias
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, origins_M)
        whole = each + RIDGE * weight.square().sum()
        whole.backward()  # type: ignore[no-untyped-call]
        return whole

    solver.step(loss)  # type: ignore[no-untyped-call]
    head = network_of(detector).head
    with torch.no_grad():
        head.norm.running_mean.copy_(mean)
        head.norm.running_var.copy_(var)
        head.output.weight.copy_(weight[None])
        head.output.bias.copy_(bias[None])


def pasted(
    base: Pixels, other: Pixels, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A quarter of another picture in the same place, all compressed once more; and the mask."""
    top, left = (int(v) for v in rng.integers(0, SIDE - QUARTER + 1, 2))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + QUARTER, left : left + QUARTER] = True
    return jpeg(np.where(mask[..., None], other, base), QUALITY, "rgb"), mask


def map_aucs(
    detector: Detector, pairs: Sequence[tuple[Pixels, Pixels]], title: str, kept: Kept
) -> NDArray[np.float64]:
    """AUC of the map against the mask, of each pair."""
    found, rng, own = [], np.random.default_rng(0), detector.hash()
    with Progress(title, len(pairs), unit="pastes") as progress:
        for base, other in pairs:
            pixels_HWC, mask = pasted(base, other, rng)
            logits_G = kept.array(
                f"map {own} {pixel_sha256(pixels_HWC)}",
                lambda one=pixels_HWC: detector.evidence(one).logits_G,  # type: ignore[misc]
            )
            at = np.arange(SIDE) * len(logits_G) // SIDE
            found.append(roc_auc(mask.ravel().astype(int), logits_G[np.ix_(at, at)].ravel()).value)
            progress.update()
    return np.array(found, dtype=np.float64)


def halves(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Whole families of generators on one side; of real images every second group."""
    kinds = sorted({one.kind for one in pictures if one.origin})
    groups = sorted({one.group for one in pictures if not one.origin})
    first = set(kinds[::2]) | {f"real {group}" for group in groups[::2]}
    sides: tuple[list[Picture], list[Picture]] = ([], [])
    for one in pictures:
        name = one.kind if one.origin else f"real {one.group}"
        sides[name not in first].append(one)
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("realset", type=Path)
    parser.add_argument("--backbone-weights", type=Path, required=True)
    parser.add_argument("--pastes", type=int, default=100)
    parser.add_argument("--images", type=int, default=10**6, help="of each half, at most")
    parser.add_argument("--kept", type=Path, default=Path("runs/evidence-kept"))
    parser.add_argument("--quick", action="store_true", help="ten pastes, forty images")
    given = parser.parse_args()
    most, num = (40, 10) if given.quick else (given.images, given.pastes)
    sides = halves(read_real_set(given.realset).pictures)
    rng = np.random.default_rng(1)
    training, judged = ([side[at] for at in rng.permutation(len(side))[:most]] for side in sides)
    detector = made_detector(given.backbone_weights)
    kept = Kept(given.kept, given.backbone_weights)
    inputs, origins = _of(detector, training, given.realset, kept)
    fit_head(detector, inputs.flatten(0, 1), origins.repeat_interleave(4))
    test: dict[int, list[Pixels]] = {0: [], 1: []}
    for one, pixels_HWC in _squares(judged, given.realset, "judged pictures"):
        test[one.origin].append(pixels_HWC)
    if min(map(len, test.values())) < 2:
        raise UserError(f"{given.realset}: too few images of a class")
    reals, fakes = (test[origin] for origin in (0, 1))
    figures = {"image_auc": _image_auc(detector, reals, fakes, kept)}
    with_fakes = [(reals[k % len(reals)], fakes[k % len(fakes)]) for k in range(num)]
    with_reals = [(reals[k % len(reals)], reals[(k + 1) % len(reals)]) for k in range(num)]
    found = map_aucs(detector, with_fakes, "generated quarters", kept)
    figures |= {"map_auc": float(found.mean()), "map_auc_low": float(np.quantile(found, 0.05))}
    figures["map_auc_photograph_pasted"] = float(
        map_aucs(detector, with_reals[: num // 3], "photographs' quarters", kept).mean()
    )
    torch.manual_seed(0)
    torch.nn.init.normal_(network_of(detector).head.output.weight, std=0.01)
    figures["map_auc_random_weights"] = float(
        map_aucs(detector, with_fakes[: num // 3], "random weights", kept).mean()
    )
    for name, value in figures.items():
        print(f"{name:28} {value:.3f}")
    print(
        f"on {given.realset.name}: {len(training)} images trained on, {len(reals)} real and "
        f"{len(fakes)} generated ones judged, {num} pastes"
    )
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def _of(
    detector: Detector, pictures: Sequence[Picture], folder: Path, kept: Kept
) -> tuple[torch.Tensor, torch.Tensor]:
    found = [
        (jpeg(s, QUALITY, "rgb"), one.origin)
        for one, s in _squares(pictures, folder, "training pictures")
    ]
    inputs = features(detector, [s for s, _ in found], "training features", kept)
    return inputs, torch.tensor([float(origin) for _, origin in found])


def _squares(pictures: Sequence[Picture], folder: Path, title: str) -> list[tuple[Picture, Pixels]]:
    """Each picture that can be read, and its middle."""
    found = []
    with Progress(title, len(pictures)) as progress:
        for one in pictures:
            pixels_HWC = square(one, folder)
            if pixels_HWC is not None:
                found.append((one, pixels_HWC))
            progress.update()
    return found


def _image_auc(
    detector: Detector, reals: Sequence[Pixels], fakes: Sequence[Pixels], kept: Kept
) -> float:
    squares = [jpeg(one, QUALITY, "rgb") for one in (*reals, *fakes)]
    inputs = features(detector, squares, "judged features", kept).flatten(0, 1)
    with torch.inference_mode():
        logits = network_of(detector).head(inputs).reshape(-1, 4).mean(1)
    labels = [0] * len(reals) + [1] * len(fakes)
    return float(roc_auc(np.array(labels), logits.numpy()).value or 0.0)


if __name__ == "__main__":
    main()
