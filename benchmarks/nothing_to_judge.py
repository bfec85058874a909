"""Is there a verdict where there is nothing to judge, and none on photographs?

    python benchmarks/nothing_to_judge.py [--photos FOLDER] [--quick]

Pictures of nothing, five of each kind, are judged by a detector through views of two kinds. Crops
of real photographs, of several sizes and at any place, are looked at by the same rules; beside them
each photograph's parts of 256 px, side by side, tell how many photographs hold a part (sky, snow, a
white wall) that would get no verdict by itself. No list says which crops show sky, snow, fog, night
or a bare wall: the smoothest twentieth of the crops, by the mean slope of grey, are such (seen:
bare walls and studio grounds, night, sky, fur and water out of focus), and are counted apart.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from rayapp.config.errors import UserError
from rayapp.dataset.images import SUFFIXES, Pixels, decode
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.nothing_to_judge import kind_of, nothing_to_judge
from rayapp.models.preprocessing import cut_views
from tests.degenerate import KINDS, files
from tests.detectors import tiny_detector

PHOTOS = Path(__file__).resolve().parents[2] / "shared/realset/real"
SEEN = (Preprocessing(size=256), Preprocessing(size=224, view="resize"))
SIDES = (256, 320, 384, 512)  # px, of crops; a smaller photograph gives what it has
CROPS, QUICK_CROPS = 4800, 200


def reason(pixels_HWC: Pixels, seen: Preprocessing) -> str:
    return nothing_to_judge(cut_views(pixels_HWC, seen), pixels_HWC.shape[:2], seen)


def slope(pixels_HWC: Pixels, seen: Preprocessing) -> float:
    """How much grey changes from pixel to pixel, on average, in what is seen."""
    grey_HW = cv2.cvtColor(cut_views(pixels_HWC, seen)[0], cv2.COLOR_RGB2GRAY).astype(np.int16)
    return float(np.abs(np.diff(grey_HW, axis=0)).mean() + np.abs(np.diff(grey_HW, axis=1)).mean())


def verdicts() -> int:
    """How many pictures of nothing get one; a line a kind."""
    print(f"{'kind':<34}{'verdicts of 5':>14}  reasons")
    total = 0
    for name in KINDS:
        made = files(name)
        reasons: Counter[str] = Counter()
        given = 0
        for seen in SEEN:
            detector = tiny_detector()
            detector.spec = detector.spec.model_copy(update={"preprocessing": seen})
            judged = detector.judge(made)
            reasons.update(kind_of(one.reason) for one in judged)
            given += sum(one.verdict != "unsure" for one in judged)
        print(f"{name:<34}{given:>14}  {', '.join(f'{n} {kind}' for kind, n in reasons.items())}")
        total += given
    return total


def photographs(folder: Path) -> Iterator[tuple[str, Pixels]]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{folder}: no photographs; give their folder with --photos")
    yield from ((path.name, decode(path.read_bytes()).pixels_HWC) for path in found)


def crops(opened: Sequence[tuple[str, Pixels]], count: int) -> Iterator[tuple[str, Pixels]]:
    rng = np.random.default_rng(0)
    for number in range(count):
        name, pixels_HWC = opened[number % len(opened)]
        side = SIDES[number // len(opened) % len(SIDES)]
        top, left = (int(rng.integers(0, max(n - side, 0) + 1)) for n in pixels_HWC.shape[:2])
        yield name, pixels_HWC[top : top + side, left : left + side]


def parts(pixels_HWC: Pixels, side: int) -> Iterator[Pixels]:
    height, width = pixels_HWC.shape[:2]
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            yield pixels_HWC[top : top + side, left : left + side]


def photographed(opened: Sequence[tuple[str, Pixels]], count: int) -> dict[str, float]:
    """Of crops, parts and whole photographs: how many would get no verdict."""
    found: dict[str, float] = {}
    for seen in SEEN:
        named = [
            (slope(crop, seen), kind_of(reason(crop, seen))) for _, crop in crops(opened, count)
        ]
        blank = [one for one in named if one[1]]
        smoothest = sorted(named)[: count // 20]
        smooth = found[f"smooth_unsure_{seen.view}_percent"] = (
            100 * sum(bool(one[1]) for one in smoothest) / len(smoothest)
        )
        share = found[f"crops_unsure_{seen.view}_percent"] = 100 * len(blank) / count
        kinds = Counter(kind for _, kind in blank)
        print(f"{count} crops, view {seen.view}-{seen.size}: {share:.2f} % unsure {dict(kinds)}")
        print(f"  of the {len(smoothest)} smoothest of them: {smooth:.1f} % unsure")
    seen = SEEN[0]
    whole = [name for name, pixels in opened if reason(pixels, seen)]
    cut = [(name, bool(reason(one, seen))) for name, px in opened for one in parts(px, seen.size)]
    touched = sorted({name for name, is_blank in cut if is_blank})
    num_blank = sum(is_blank for _, is_blank in cut)
    print(f"{len(opened)} whole photographs: {len(whole)} unsure {whole}")
    print(f"{len(cut)} parts of {seen.size} px: {num_blank} blank, in {len(touched)} photographs:")
    print(*(f"  {name}" for name in touched), sep="\n")
    return found | {"photographs_unsure": len(whole), "photographs_with_blank_parts": len(touched)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of real photographs")
    parser.add_argument("--quick", action="store_true", help="a tenth of the crops")
    given = parser.parse_args()
    figures: dict[str, float] = {"verdicts": verdicts()}
    opened = list(photographs(given.photos))[: 40 if given.quick else None]
    figures |= photographed(opened, QUICK_CROPS if given.quick else CROPS)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
