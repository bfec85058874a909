"""How soon a command answers: help of every job, against the import of torch, in one run.

python benchmarks/startup.py [--quick]

Each command runs as a process of its own, after one that is not counted; the medians count. The
last line is JSON: `help_ratio`, the slowest job's help as a share of `python -c "import torch"`,
and `help_mb`, the most memory that one takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one counted run of each")
    runs = 1 if parser.parse_args().quick else 5
    jobs = sorted((ROOT / "jobs").glob("*.py"))
    torch_s, torch_mb = measured([sys.executable, "-c", "import torch"], runs)
    print(f"{'import torch':<20} {torch_s:6.2f} s {torch_mb:6.0f} MB")
    seconds, megabytes = {}, {}
    for job in jobs:
        seconds[job.stem], megabytes[job.stem] = measured(
            [sys.executable, str(job), "--help"], runs
        )
        print(
            f"{job.stem + ' --help':<20} {seconds[job.stem]:6.2f} s {megabytes[job.stem]:6.0f} MB"
        )
    figures = {
        "import_torch_s": round(torch_s, 2),
        "help_ratio": round(max(seconds.values()) / torch_s, 3),
        "help_mb": round(max(megabytes.values()), 1),
    }
    print(json.dumps(figures))


def measured(command: list[str], runs: int) -> tuple[float, float]:
    """Median seconds and megabytes at most of so many runs."""
    once(command)
    found = [once(command) for _ in range(runs)]
    return statistics.median(s for s, _ in found), max(mb for _, mb in found)


def once(command: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {status}")
    return seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
