"""What Ray Train costs on the demo's training: seconds to the first step, and time a step.

The same run is done by Ray Train on one worker and by `train_alone` in a process of its own, in
turns; both read the demo's images and keep state, metrics and curves after each epoch. Time a step
is that from the first epoch's end to the last one's, so that reports and checkpoints count; the
smallest of all rounds is taken. Command: python benchmarks/train_overhead.py [--quick]
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_yaml
from rayapp.demo.settings import DemoDataSettings
from rayapp.jobs.demo_data import build

JOB = Path(__file__).parents[1] / "jobs" / "train.py"


@dataclass(frozen=True)
class Timed:
    """Seconds from the command to the first step, seconds a step, and seconds in all."""

    start_s: float
    step_s: float
    whole_s: float


def demo_config(folder: Path, crops: int, epochs: int | None = None) -> Path:
    """The demo's data and its recipe, under a folder; `epochs` of stage 1, its own if none."""
    data = folder / "data"
    build(DemoDataSettings(output=str(data), generator_steps=20, crops_per_photograph=crops))
    recipe, _ = read_yaml(resource("configs", "demo"))
    recipe["annotations"] = [str(data / "lists" / "train.txt")]
    recipe["head_annotations"] = [str(data / "lists" / "head.txt")]
    recipe["root"] = str(data)
    if epochs:
        recipe["stage1"]["epochs"] = epochs
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(recipe))
    return config


def timed(config: Path, output: Path, num_workers: int) -> Timed:
    """One run of the job.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began = time.time()
    command = [sys.executable, str(JOB), "--config", str(config), "--output", str(output)]
    subprocess.run(
        [*command, "--num-workers", str(num_workers), "--on-ray"], check=True, capture_output=True
    )
    whole_s = time.time() - began
    epochs = list(csv.DictReader((output / "metrics.csv").read_text().splitlines()))
    ends = [path.stat().st_mtime for path in sorted((output / "tensorboard").iterdir())]
    per_epoch = int(epochs[0]["step"])
    steps = per_epoch * (sum(epoch["stage"] == "stage1" for epoch in epochs) - 1)
    last = steps // per_epoch
    start_s = ends[0] - float(epochs[0]["seconds"]) - began
    return Timed(start_s, (ends[last] - ends[0]) / steps, whole_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few epochs")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = demo_config(folder, *((6, 5) if quick else (24,)))
        found: dict[int, list[Timed]] = {0: [], 1: []}
        for number in range(1 if quick else 3):
            for workers in found:
                found[workers].append(timed(config, folder / f"{number}-{workers}", workers))
    print(f"{'':<12}{'first step s':>14}{'ms a step':>12}{'in all s':>10}")
    for workers, label in ((0, "alone"), (1, "Ray Train")):
        for one in found[workers]:
            print(f"{label:<12}{one.start_s:>14.1f}{1e3 * one.step_s:>12.1f}{one.whole_s:>10.1f}")
    steps = {workers: min(one.step_s for one in runs) for workers, runs in found.items()}
    figures = {
        "train_start_s": round(min(one.start_s for one in found[1]), 1),
        "train_step_overhead": round(steps[1] / steps[0] - 1, 4),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
