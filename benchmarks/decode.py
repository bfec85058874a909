"""What does one decoder for all cost on plain JPEG files, beside Pillow and OpenCV alone?

    python benchmarks/decode.py [--quick]

Files of 256 and 384 px a side, photograph-like, are decoded in turns; the least time of each way
counts. The last line is JSON: `decode_ratio`, what `decode` (predict's way) takes as a share of
Pillow alone; `pixels_of_ratio`, what `pixels_of` (training's) takes of OpenCV alone; the larger of
both sizes.
"""

import argparse
import io
import json
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from rayapp.dataset.images import decode, pixels_of
from tests.pictures import photographed, saved

SIDES, FILES, ROUNDS = (256, 384), 32, 40


def by_pillow(data: bytes) -> object:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_opencv(data: bytes) -> object:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


WAYS: dict[str, Callable[[bytes], object]] = {
    "Pillow": by_pillow, "decode": decode, "OpenCV": by_opencv, "pixels_of": pixels_of,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    rounds = 8 if parser.parse_args().quick else ROUNDS
    cv2.setNumThreads(1)
    ratios: dict[str, float] = {"decode_ratio": 0.0, "pixels_of_ratio": 0.0}
    for side in SIDES:
        pictures = [Image.fromarray(photographed(side, side, seed)) for seed in range(FILES)]
        files = [saved(picture, "JPEG", quality=90) for picture in pictures]
        least = dict.fromkeys(WAYS, float("inf"))
        for _ in range(rounds):
            for name, way in WAYS.items():
                start = time.process_time()
                for data in files:
                    way(data)
                least[name] = min(least[name], time.process_time() - start)
        shown = (f"{name} {1e6 * seconds / FILES:.0f} µs" for name, seconds in least.items())
        print(f"{side} px: {', '.join(shown)}")
        for name, base in (("decode", "Pillow"), ("pixels_of", "OpenCV")):
            ratio = round(least[name] / least[base], 3)
            ratios[f"{name}_ratio"] = max(ratios[f"{name}_ratio"], ratio)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
