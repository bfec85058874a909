"""How soon a command answers, against the import of torch, in one run.

python benchmarks/startup.py [--quick]

Each command runs as a process of its own, after one that is not counted; the medians count. The
last line is JSON: `help_ratio`, the slowest job's help as a share of `python -c "import torch"`;
`help_mb`, the most memory that one takes; `score_1_ratio` and `score_300_ratio`, `imaginet predict`
of one and of 300 images of 128 px (noise) by a small network with random weights; and
`largest_difference` between the logits of the 300 with and without Ray.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIDE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one counted run of each")
    runs = 1 if parser.parse_args().quick else 5
    torch_s, torch_mb = measured([sys.executable, "-c", "import torch"], runs)
    print(f"{'import torch':<20} {torch_s:6.2f} s {torch_mb:6.0f} MB")
    seconds, megabytes = {}, {}
    for job in sorted((ROOT / "jobs").glob("*.py")):
        command = [sys.executable, str(job), "--help"]
        seconds[job.stem], megabytes[job.stem] = measured(command, runs)
        shown = f"{seconds[job.stem]:6.2f} s {megabytes[job.stem]:6.0f} MB"
        print(f"{job.stem + ' --help':<20} {shown}")
    figures = {
        "import_torch_s": round(torch_s, 2),
        "help_ratio": round(max(seconds.values()) / torch_s, 3),
        "help_mb": round(max(megabytes.values()), 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        make_inputs(made)
        for count in (1, 300):
            took, most = measured(score(made, count), runs)
            print(f"{f'score {count}':<20} {took:6.2f} s {most:6.0f} MB")
            figures[f"score_{count}_ratio"] = round(took / torch_s, 2)
        outputs = [made / "here", made / "on-ray"]
        for output, options in zip(outputs, ([], ["--on-ray"]), strict=True):
            once([*score(made, 300), "--output", str(output), *options])
        figures["largest_difference"] = difference(*outputs)
    print(json.dumps(figures))


def make_inputs(folder: Path) -> None:
    """A detector with random weights, and folders of one and of 300 images."""
    from tests.detectors import saved_detector

    saved_detector(folder / "detector")
    random = np.random.default_rng(7)
    for count in (1, 300):
        (folder / str(count)).mkdir()
        for at in range(count):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / str(count) / f"{at:03}.png")


def score(folder: Path, count: int) -> list[str]:
    """The command that scores so many images, without its output."""
    script, detector = str(ROOT / "jobs/predict.py"), str(folder / "detector")
    return [sys.executable, script, "--detector", detector, "--input", str(folder / str(count))]


def difference(one: Path, other: Path) -> float:
    """The largest between the logits of the same images."""
    import pyarrow.parquet as pq

    logits = [pq.read_table(path / "scores.parquet")["logit"].to_numpy() for path in (one, other)]
    return float(np.abs(logits[0] - logits[1]).max())


def measured(command: list[str], runs: int) -> tuple[float, float]:
    """Median seconds and megabytes at most of so many runs."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [
            ["--output", f"{folder}/{run}"] if "--input" in command else []
            for run in range(runs + 1)
        ]
        found = [once([*command, *output]) for output in outputs][1:]
    return statistics.median(s for s, _ in found), max(mb for _, mb in found)


def once(command: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {status}")
    return seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
