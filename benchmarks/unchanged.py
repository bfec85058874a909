"""Are results what they were at an earlier commit? The demo, there and here, compared by hash.

python benchmarks/unchanged.py --before REV [--quick]

Runs the demo (and its tiny form) from a checkout of REV and from this one, on the same machine and
in the same environment, and compares the sha256 of every image of the data and of the perturbed
set, the trained weights, the detector's hash and the figures of metrics.json. Logits are promised
to 1e-5 only, so they are compared so; a figure of ranks may hang on less. So before the figures are
compared, this checkout measures them anew on the logits of REV.

Colours are now shown as a colour profile says, which is a change that was meant. So each photograph
of the demo is decoded by both first. Where they differ, and not once the profile is left out, that
is said, and both demos are given the pixels that REV saw: all that differs then is a fault. The
last line is JSON: how many of each were compared, and how many differ.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rayapp.dataset.pixels import to_visible
from rayapp.demo.photographs import shipped_photographs

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {".png", ".webp", ".jpg", ".jpeg"}
CLOSE = 1e-5  # logits agree to this
# Run by the code of either checkout: the pixels that it sees of each photograph, as PNG.
DECODE = """
import sys
from pathlib import Path
from PIL import Image
from rayapp.demo import photographs
for photo in photographs.shipped_photographs():
    pixels = photographs.decode(photo.read()).pixels_HWC
    Image.fromarray(pixels).save(Path(sys.argv[1], Path(photo.file).name + ".png"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="commit to compare with")
    parser.add_argument("--quick", action="store_true", help="the tiny demo alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, checkout(asked.before, Path(scratch)) as before:
        packages = Path(scratch, "packages")
        found = photographs(before, packages, Path(scratch))
        for name, options in (("tiny", ["--tiny"]), ("demo", [])):
            if asked.quick and name == "demo":
                continue
            was, now = (Path(scratch, label, name) for label in ("before", "now"))
            demo(before, packages, was, options)
            demo(ROOT, packages, now, options)
            found |= compare(f"{name}_images", dict(images(was)), dict(images(now)))
            found |= compare(f"{name}_detector", detector(was), detector(now))
            found |= logits(name, was, now)
            demo(ROOT, packages, now, options)
            found |= compare(f"{name}_figures", figures(was), figures(now))
    print(json.dumps(found))
    sys.exit(any(value for name, value in found.items() if name.endswith("_differ")))


class checkout:  # noqa: N801 - reads as what it is in a with statement
    """A worktree of a commit, as long as the block."""

    def __init__(self, commit: str, scratch: Path) -> None:
        self.commit, self.folder = commit, scratch / "code"

    def __enter__(self) -> Path:
        git("worktree", "add", "--quiet", "--detach", str(self.folder), self.commit)
        return self.folder

    def __exit__(self, *error: object) -> None:
        git("worktree", "remove", "--force", str(self.folder))


def git(*words: str) -> None:
    subprocess.run(["git", *words], cwd=ROOT, check=True)


def photographs(before: Path, packages: Path, scratch: Path) -> dict[str, int]:
    """Compare what both see of each photograph, and lay what `before` saw where demos look first.

    Left in `packages` is a copy of each package that carries a photograph which differs.
    """
    packages.mkdir()
    was, now = scratch / "was", scratch / "now"
    for code, folder in ((before, was), (ROOT, now)):
        folder.mkdir()
        run([sys.executable, "-c", DECODE, str(folder)], code, str(code))
    files = [Path(photo.file) for photo in shipped_photographs()]
    differ = [file for file in files if not same(pixels(was, file), pixels(now, file))]
    by_profile = [file for file in differ if same(pixels(was, file), without_profile(file))]
    for file in differ:
        why = "its colour profile is applied now; without it the pixels are the same"
        print(
            f"{file.name}: {why if file in by_profile else 'decoded differently, not by profile'}"
        )
        stand_in(file, was / f"{file.name}.png", packages)
    print(f"photographs: {len(files)} compared, {len(by_profile)} differ by their profile alone")
    return {
        "photographs": len(files),
        "photographs_by_profile": len(by_profile),
        "photographs_differ": len(differ) - len(by_profile),
    }


def pixels(folder: Path, file: Path) -> np.ndarray:
    """What a checkout saw of a photograph."""
    return np.asarray(Image.open(folder / f"{file.name}.png"))


def without_profile(file: Path) -> np.ndarray:
    """What this checkout sees of a photograph whose colour profile is left out."""
    with Image.open(file) as image:
        image.load()
        image.info.pop("icc_profile", None)
        return to_visible(image)[0]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def stand_in(photograph: Path, pixels: Path, packages: Path) -> None:
    """Lay other pixels in a photograph's place, in a copy of its package that is made of links."""
    name = next(name for name in ("skimage", "sklearn") if name in photograph.parts)
    original = Path(*photograph.parts[: len(photograph.parts) - photograph.parts[::-1].index(name)])
    copy = packages / name
    if not copy.exists():
        shutil.copytree(original, copy, copy_function=os.symlink)
    mine = copy / photograph.relative_to(original)
    mine.unlink()
    mine.symlink_to(pixels)


def run(job: list[str], code: Path, path: str) -> None:
    """Run a job with the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
    subprocess.run(job, cwd=code, env=environment, check=True, stdout=subprocess.DEVNULL)


def demo(code: Path, packages: Path, output: Path, options: list[str]) -> None:
    """Run the demo of a checkout, or go on with it."""
    job = [sys.executable, str(code / "jobs/demo.py"), "--output", str(output), *options]
    print(f"{code}: demo {' '.join(options)}", flush=True)
    run(job, code, os.pathsep.join((str(packages), str(code))))


def detector(output: Path) -> dict[str, str]:
    """Hashes of what was trained."""
    calibrated = json.loads((output / "detector/run.json").read_text())
    weights = output / "train/detector/model.safetensors"
    return {"weights": sha256(weights), "hash": calibrated["inputs"]["detector"]}


def figures(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return found


def logits(name: str, was: Path, now: Path) -> dict[str, int]:
    """Compare the logits of every scored image, and put those of `was` in their place in `now`."""
    num_compared, differ, largest = 0, 0, 0.0
    for folder, old in (("scores", "scores-perturbed"), ("scores-clean", "scores-clean")):
        before = old if (was / old).exists() else folder
        known = {row["id"]: row["logit"] for at in scores(was / before) for row in rows(at)}
        for path in scores(now / folder):
            table = pq.read_table(path)
            mine = np.array(table["logit"].to_pylist())
            theirs = np.array([known[one] for one in table["id"].to_pylist()])
            apart = np.abs(mine - theirs)
            num_compared, differ = num_compared + len(mine), differ + int((apart > CLOSE).sum())
            largest = max(largest, float(apart.max()))
            column = pa.array(theirs, table.schema.field("logit").type)
            at = table.column_names.index("logit")
            pq.write_table(table.set_column(at, table.schema.field("logit"), column), path)
    print(f"{name}_logits: {num_compared} compared, {differ} differ, by {largest:.1e} at most")
    return {f"{name}_logits": num_compared, f"{name}_logits_differ": differ}


def scores(folder: Path) -> list[Path]:
    return sorted(folder.rglob("scores.parquet"))


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path, columns=["id", "logit"]).to_pylist()
    return found


def images(output: Path) -> Iterator[tuple[str, str]]:
    for folder in ("data", "perturbed"):
        for path in sorted((output / folder).rglob("*")):
            if path.suffix in IMAGES:
                yield str(path.relative_to(output)), sha256(path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compare(name: str, was: dict[str, Any], now: dict[str, Any]) -> dict[str, int]:
    """How many were compared and how many differ; a key that is new is no difference."""
    differ = [key for key in was if now.get(key) != was[key]]
    print(f"{name}: {len(was)} compared, {len(differ)} differ")
    for key in differ[:5]:
        print(f"  {key}: {was[key]} → {now.get(key)}")
    return {name: len(was), f"{name}_differ": len(differ)}


if __name__ == "__main__":
    main()
