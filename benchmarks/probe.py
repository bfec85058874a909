"""A probe on CLIP ViT-B/16 on two cores: seconds for the features of so many images, and after.

Crops of photographs, half of them through JPEG at quality 30 and labelled as synthetic: what the
head learns does not matter here. Trained twice by configs/probe.yaml, the second time with another
learning rate and the features of the first: probe_features_s and probe_again_s, each the whole
command. Fewer than 1,000 images are scaled up in probe_features_1000_s, by what each takes once the
second command's time, which makes none, is taken off.

Command: python benchmarks/probe.py --backbone-weights FILE [--images N] [--quick]
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.photographs import files

ROOT = Path(__file__).resolve().parents[1]
BACKBONE = "vit_base_patch16_clip_quickgelu_224.openai"
_WANTED, _FEW = 1_000, 48
_LABELS = "0,0,4,8", "1,0,1,3"  # of the label scheme `imaginet`
_OPTIONS = (
    "--config probe --num-workers 2 --cpus-per-worker 1 --loader-processes 0 --gpus-per-worker 0 "
    f"--precision fp32 --on-ray --cpus 2 --architecture.backbone {BACKBONE}"
).split()


def lay_out(folder: Path, count: int) -> None:
    """Crops of photographs, and their list."""
    (folder / "images").mkdir()
    lines = []
    for number, (name, data) in enumerate(files(count, (256, 384))):
        if number % 2:
            sink = io.BytesIO()
            Image.open(io.BytesIO(data)).save(sink, "JPEG", quality=30)
            name, data = f"{name}.jpg", sink.getvalue()
        (folder / "images" / name).write_bytes(data)
        lines.append(f"images/{name},{_LABELS[number % 2]}\n")
    (folder / "list.txt").write_text("".join(lines))


def seconds(folder: Path, weights: str, rate: float) -> float:
    """Of one training, the whole command."""
    command = [sys.executable, str(ROOT / "jobs/train.py"), *_OPTIONS]
    command += ["--annotations", str(folder / "list.txt"), "--root", str(folder)]
    command += ["--output", str(folder / f"out-{rate}"), "--feature-cache", str(folder / "kept")]
    command += ["--backbone-weights", weights, "--stage2.learning-rate", str(rate)]
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone-weights", required=True, help="safetensors, in timm's names")
    parser.add_argument("--images", type=int, default=_WANTED)
    parser.add_argument("--quick", action="store_true", help=f"{_FEW} images, a minute")
    given = parser.parse_args()
    count = _FEW if given.quick else given.images
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), count)
        first, again = (seconds(Path(name), given.backbone_weights, rate) for rate in (3e-3, 2e-3))
    print(f"{count} images: {first:.1f} s, on the kept features {again:.1f} s")
    whole = again + (first - again) * _WANTED / count
    figures = {"features_s": first, "features_1000_s": whole, "again_s": again}
    print(json.dumps({f"probe_{name}": round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
