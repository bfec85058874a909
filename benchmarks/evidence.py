"""Does a map of evidence show where the generated part of a picture is? Pastes into photographs.

A frozen CLIP ViT-B/16 with a linear head on the mean of its patches is trained on half of a real
set: half of the families, half of the real images. Of the other half, a quarter of a generated
picture is pasted into each of 100 photographs, at the same place, and the whole is compressed as
JPEG 90; the map of `Detector.evidence` is then held against the mask, pixel by pixel, as ROC AUC.
Beside it, on fewer pastes: a quarter of another photograph, which no map should find; and networks
whose weights are all random, backbone and head, one a seed. What such a network says of a part has
either sign with equal chance, so that over the seeds its maps find nothing: their mean AUC lies at
0.5 within its 95 % interval, the seeds being what is drawn. A random backbone with a head that is
trained as above is no random network. Its maps show what any filters at all see of a generated
picture; what the trained backbone adds is the distance to that.

Features and the maps' figures are kept under --kept as they are made: a run that was cut off, or is
run again, goes on from there.

Command: python -m benchmarks.evidence REALSET --backbone-weights FILE [--quick]
Last line: JSON with image_auc (of whole pictures of the other half), map_auc, map_auc_low (5 % of
the pastes are worse), map_auc_photograph_pasted; of all random weights map_auc_random, its interval
map_auc_random_from and _to, its deviation from seed to seed and how many seeds there are; and
map_auc_random_filters, of a trained head on a random backbone.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.pastes import QUALITY, Kept, Pixels, map_aucs, of_random_weights
from benchmarks.real_set import Picture, read_real_set
from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, decode, pixel_sha256, sha256
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.inference.linear_layers import inference
from rayapp.models.networks import build_network
from rayapp.models.preprocessing import preprocess
from rayapp.models.pretrained import read_weights
from rayapp.run.progress import Progress
from rayapp.transforms.operations import jpeg, resize

BACKBONE = "vit_base_patch16_clip_quickgelu_224.openai"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE, QUARTER = 448, 224
LAYERS = (5, 8)  # middle blocks: what generators leave shows there
RIDGE = 1e-2
SEEDS, RANDOM_PASTES = 10, 5  # what is drawn is the network: few pastes of each


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


def made_detector(weights: Path | None, seed: int = 0) -> Detector:
    """The frozen backbone, of a file or of random weights, under a head of random weights."""
    head = HeadSettings(norm="batch", hidden=0, pool="mean", layers=LAYERS)
    architecture = Architecture(backbone=BACKBONE, head=head)
    given = read_weights(weights.read_bytes(), str(weights)) if weights else None
    torch.manual_seed(seed)
    network = build_network(architecture, weights=given)
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
        with inference(detector.network) as network:
            return np.asarray(cast(Any, network).features(torch.cat(quarters)).numpy())

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


@dataclass(frozen=True)
class Material:
    """What a head is trained on, whole pictures that it is judged by, and pairs to be pasted."""

    trained_on: Sequence[tuple[Picture, Pixels]]
    reals: Sequence[Pixels]
    fakes: Sequence[Pixels]
    num_pastes: int

    @property
    def with_fakes(self) -> list[tuple[Pixels, Pixels]]:
        """A photograph and a generated picture, as often as pastes are wanted."""
        reals, fakes = self.reals, self.fakes
        return [(reals[k % len(reals)], fakes[k % len(fakes)]) for k in range(self.num_pastes)]

    @property
    def with_reals(self) -> list[tuple[Pixels, Pixels]]:
        """Two photographs, a third as often."""
        reals, count = self.reals, self.num_pastes // 3
        return [(reals[k % len(reals)], reals[(k + 1) % len(reals)]) for k in range(count)]


def material_of(realset: Path, most: int, num_pastes: int) -> Material:
    """Of a real set, at most so many images of each half."""
    rng = np.random.default_rng(1)
    training, judged = (
        [side[at] for at in rng.permutation(len(side))[:most]]
        for side in halves(read_real_set(realset).pictures)
    )
    trained_on = _squares(training, realset, "training pictures")
    test: dict[int, list[Pixels]] = {0: [], 1: []}
    for one, pixels_HWC in _squares(judged, realset, "judged pictures"):
        test[one.origin].append(pixels_HWC)
    if min(map(len, test.values())) < 2:
        raise UserError(f"{realset}: too few images of a class")
    return Material(trained_on, test[0], test[1], num_pastes)


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
    most, num, seeds = (40, 10, 3) if given.quick else (given.images, given.pastes, SEEDS)
    of = material_of(given.realset, most, num)

    kept = Kept(given.kept, _kind(sha256(given.backbone_weights.read_bytes())))
    detector = made_detector(given.backbone_weights)
    fit_to(detector, of.trained_on, kept)
    figures = {"image_auc": _image_auc(detector, of.reals, of.fakes, kept)}
    found = map_aucs(detector, of.with_fakes, "generated quarters", kept)
    figures["map_auc"] = float(found.mean())
    figures["map_auc_low"] = float(np.quantile(found, 0.05))
    of_photographs = map_aucs(detector, of.with_reals, "photographs' quarters", kept)
    figures["map_auc_photograph_pasted"] = float(of_photographs.mean())

    made = (made_detector(None, seed) for seed in range(1, seeds + 1))
    random = of_random_weights(
        made, of.with_fakes[:RANDOM_PASTES], Kept(given.kept, _kind("random"))
    )
    figures |= {"map_auc_random": random.mean, "map_auc_random_deviation": random.deviation}
    figures |= {"map_auc_random_from": random.low, "map_auc_random_to": random.high}

    kept = Kept(given.kept, _kind("random filters"))
    filters = made_detector(None)
    fit_to(filters, of.trained_on, kept)
    found = map_aucs(filters, of.with_fakes[: num // 3], "trained on random filters", kept)
    figures["map_auc_random_filters"] = float(found.mean())
    for name, value in figures.items():
        print(f"{name:28} {value:.3f}")
    print(
        f"on {given.realset.name}: {len(of.trained_on)} images trained on, {len(of.reals)} real "
        f"and {len(of.fakes)} generated ones judged, {num} pastes; {seeds} networks of random "
        f"weights, {'at' if random.at_chance else 'NOT at'} chance"
    )
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps(rounded | {"random_seeds": seeds}))


def _kind(weights: str) -> str:
    return f"{weights} {SIDE} {QUARTER} {QUALITY} {LAYERS}"


def fit_to(detector: Detector, pictures: Sequence[tuple[Picture, Pixels]], kept: Kept) -> None:
    """Fit the head to the quarters of compressed pictures."""
    squares = [jpeg(pixels_HWC, QUALITY, "rgb") for _, pixels_HWC in pictures]
    inputs = features(detector, squares, "training features", kept)
    origins = torch.tensor([float(one.origin) for one, _ in pictures])
    fit_head(detector, inputs.flatten(0, 1), origins.repeat_interleave(4))


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
