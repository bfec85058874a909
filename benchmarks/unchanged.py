"""Are results what they were at an earlier commit? The demo, there and here, compared by hash.

python benchmarks/unchanged.py --before REV [--quick]

Runs the demo (and its tiny form) from a checkout of REV and from this one, on the same machine and
in the same environment, and compares the sha256 of every image of the data and of the perturbed
set, the trained weights, the detector's hash and the figures of metrics.json. The last line is
JSON: how many of each were compared, and how many differ.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {".png", ".webp", ".jpg", ".jpeg"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="commit to compare with")
    parser.add_argument("--quick", action="store_true", help="the tiny demo alone")
    asked = parser.parse_args()
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch, checkout(asked.before, Path(scratch)) as before:
        for name, options in (("tiny", ["--tiny"]), ("demo", [])):
            if asked.quick and name == "demo":
                continue
            was, now = (
                facts(demo(code, Path(scratch, label, name), options))
                for label, code in (("before", before), ("now", ROOT))
            )
            for kind in was:
                found |= compare(f"{name}_{kind}", was[kind], now[kind])
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


def demo(code: Path, output: Path, options: list[str]) -> Path:
    """Run the demo of a checkout; its output."""
    environment = os.environ | {"PYTHONPATH": str(code), "RAY_AUTH_MODE": "disabled"}
    job = [sys.executable, str(code / "jobs/demo.py"), "--output", str(output), *options]
    print(f"{code}: demo {' '.join(options)}", flush=True)
    subprocess.run(job, cwd=code, env=environment, check=True, stdout=subprocess.DEVNULL)
    return output


def facts(output: Path) -> dict[str, dict[str, Any]]:
    """Everything of a demo's output that must not change, by kind and name."""
    hashes = {"weights": output / "train/detector/model.safetensors"}
    calibrated = json.loads((output / "detector/run.json").read_text())
    return {
        "images": dict(images(output)),
        "detector": {name: sha256(path) for name, path in hashes.items()}
        | {"hash": calibrated["inputs"]["detector"]},
        "figures": json.loads((output / "metrics.json").read_text()),
    }


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
