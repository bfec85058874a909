"""How long the demo takes, how much memory all its processes hold together, and what it reaches.

`python benchmarks/demo.py` runs it twice in a new folder: from nothing, then with all stages done.
`--quick` runs the tiny form. The last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = Path(__file__).parents[1] / "jobs" / "demo.py"
SAMPLE_EVERY_S = 1.0


def descendants(root: int) -> set[int]:
    """A process and all below it, by /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_mb(pids: set[int]) -> float:
    """Resident memory of the processes in MB, shared pages counted once (proportional set size)."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def timed(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one run of the job.

    Raises:
        SystemExit: the job failed.
    """
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, str(JOB), *arguments])
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_mb(descendants(process.pid)))
        time.sleep(SAMPLE_EVERY_S)
    if process.returncode:
        raise SystemExit(f"the demo ended with {process.returncode}")
    return time.monotonic() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny form")
    parser.add_argument("--cpus", default="2", help="CPUs of the local Ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--output", folder, "--cpus", options.cpus]
        arguments += ["--tiny"] if options.quick else []
        first_s, peak_mb = timed(arguments)
        second_s, _ = timed(arguments)
        metrics = json.loads(Path(folder, "metrics.json").read_text())
    figures = {
        "demo_s": round(first_s, 1),
        "second_run_s": round(second_s, 1),
        "peak_mb": round(peak_mb),
        "seen_roc_auc": metrics["seen_roc_auc"],
        "held_out_roc_auc": metrics["held_out_roc_auc"],
    }
    for name, value in figures.items():
        print(f"{name:<18} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
