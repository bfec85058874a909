"""The service beside predict: throughput, what it adds to one image, waiting, overload.

Two networks with random weights, the demo's (256-px views of 256 to 320 px images) and that of
`commfor` (384-px views of 512 to 1024 px photographs). The service has two replicas of one thread
each and predict two threads, on the same two cores; the load comes from a process of its own, which
takes its share of them.

serve_efficiency   images a second at saturation, 8 a request, as a share of predict's; predict runs
                   before and after, and both count
single_efficiency  the same with one image a request
added_ms_p50       milliseconds of one image without load, beyond decoding and forward pass
                   in this process; each in turn, medians
p99_over_p50       seconds of requests of one image at half of what saturates
overload           `--minutes` of twice what saturates: codes, requests without a code, megabytes
                   that the service's processes grew from the second tenth of that time to the last
                   (medians: a replica takes and gives back some fifty with each large batch), which
                   of them by five and more, and seconds until it is healthy afterwards

Command: python benchmarks/serve.py [--quick] [--minutes 10] [--only demo|commfor]
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import requests
import torch

from benchmarks.photographs import SIDES, lay_out
from benchmarks.predict import DEMO_SIDES, detector_of
from rayapp.jobs.serve_detector import DetectorOrder, ServedDetector
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import LAYOUTS
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.serve.score_contract import ScoreOptions, SentImage
from rayapp.storage.uris import open_store
from tests.doubles.s3 import free_ports

ROOT = Path(__file__).resolve().parents[1]
CORES = 2
AT_ONCE, CONNECTIONS = 8, 6
Figures = dict[str, Any]


def commfor() -> Detector:
    """The published detector's shape, with random weights."""
    torch.manual_seed(0)
    architecture, seen = LAYOUTS["commfor"]
    network = build_network(architecture).eval()
    strides = network.encoder.backbone.strides()
    return Detector(
        network, DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    )


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


@contextlib.contextmanager
def service(
    detector: str, output: Path, replicas: int
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service that answers, and its process."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(ROOT / "jobs/serve.py"), "--detector", detector]
    command += ["--port", str(port), "--output", str(output), "--cpus", str(CORES)]
    command += ["--min-replicas", str(replicas), "--max-replicas", str(replicas)]
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        healthy_after(url, 180, process)
        yield url, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def healthy_after(url: str, most_s: float, process: subprocess.Popen[bytes]) -> float:
    """Seconds until the detectors answer."""
    began = time.monotonic()
    while time.monotonic() < began + most_s:
        if process.poll() is not None:
            raise SystemExit("the service ended")
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/readyz", timeout=10).ok:
                return time.monotonic() - began
        time.sleep(0.05)
    raise SystemExit(f"no service after {most_s} s")


def load(url: str, folder: Path, **options: float) -> Figures:
    """What became of a load."""
    command = [sys.executable, "-m", "benchmarks.serve_load", url, str(folder)]
    command += [word for name, value in options.items() for word in (f"--{name}", f"{value:g}")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: Figures = json.loads(ended.stdout.splitlines()[-1])
    return found


def predicted(detector: str, folder: Path, output: Path) -> float:
    """Images a second of the predict job."""
    command = [sys.executable, str(ROOT / "jobs/predict.py"), "--detector", detector]
    command += ["--input", str(folder), "--output", str(output), "--gallery", "0"]
    command += ["--precision", "exact", "--cpus", str(CORES)]
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    return float(json.loads((output / "run.json").read_text())["results"]["images_per_s"])


def added_ms(url: str, detector: str, folder: Path, count: int) -> float:
    """Of one image at a time, each way in turn."""
    served = ServedDetector(DetectorOrder(name="here", uri=detector))
    images = [SentImage("", path.read_bytes()) for path in sorted(folder.iterdir())[:count]]
    session, here, there = requests.Session(), [], []
    for image in [images[0], *images]:  # the first to warm up
        began = time.perf_counter()
        served.score([image], ScoreOptions(), 60)
        here.append(time.perf_counter() - began)
        began = time.perf_counter()
        session.post(f"{url}/v1/score", data=image.data, timeout=60).raise_for_status()
        there.append(time.perf_counter() - began)
    return 1e3 * (statistics.median(there[1:]) - statistics.median(here[1:]))


def megabytes(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Memory of the service's processes by name; Ray's object store, of a fixed size, is apart."""
    found: dict[str, float] = defaultdict(float)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error, OSError):
            text = Path(f"/proc/{one.pid}/smaps_rollup").read_text()
            line = next(line for line in text.splitlines() if line.startswith("Pss_Anon:"))
            command = one.cmdline()[0]
            name = one.name()
            if command.startswith("ray::"):  # and what it does at the moment
                name = command.rpartition("::")[2].partition(".")[0]
            found[name] += int(line.split()[1]) / 1e3
    return found


def overload(
    url: str, process: subprocess.Popen[bytes], folder: Path, rate: float, seconds: float
) -> Figures:
    """Twice what saturates, for so long."""
    command = [sys.executable, "-m", "benchmarks.serve_load", url, str(folder)]
    command += ["--rate", f"{2 * rate:g}", "--seconds", f"{seconds:g}"]
    loading = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    began, held = time.monotonic(), []
    while (now := time.monotonic() - began) < seconds - 2:
        held.append((now, megabytes(process)))
        time.sleep(seconds / 200)
    said, _ = loading.communicate()
    healthy_s = healthy_after(url, 60, process)
    found: Figures = json.loads(said.splitlines()[-1])
    kept = ("statuses", "lost", "wrong")
    before, after = (
        [each for at, each in held if tenth <= 10 * at / seconds < tenth + 1] for tenth in (1, 9)
    )
    names = {name for _, each in held for name in each}
    return {name: found[name] for name in kept} | {
        "grown_mb": grown([sum(e.values()) for e in before], [sum(e.values()) for e in after]),
        "grown_mb_of": {
            name: more
            for name in sorted(names)
            if abs(more := grown([e[name] for e in before], [e[name] for e in after])) >= 5
        },
        "healthy_s": round(healthy_s, 2),
    }


def grown(before: Sequence[float], after: Sequence[float]) -> float:
    """By how much a median is higher."""
    return round(statistics.median(after) - statistics.median(before), 1)


def measure(name: str, detector: str, folder: Path, quick: bool, minutes: float) -> Figures:
    """All figures of one network."""
    output, seconds = folder.parent / f"{name}-out", 5.0 if quick else 30.0
    rates = [predicted(detector, folder, output / "before")]
    with service(detector, output / "serve", CORES) as (url, process):
        load(url, folder, seconds=2.0, connections=CONNECTIONS, images=AT_ONCE)  # warm
        many = load(url, folder, seconds=seconds, connections=CONNECTIONS, images=AT_ONCE)
        single = load(url, folder, seconds=seconds, connections=4 * CONNECTIONS, images=1)
        half = load(url, folder, seconds=seconds, rate=single["requests_per_s"] / 2, images=1)
        added = added_ms(url, detector, folder, 10 if quick else 100)
        over = overload(url, process, folder, single["requests_per_s"], 60 * minutes)
    rates.append(predicted(detector, folder, output / "after"))
    of_predict = statistics.mean(rates)
    figures = {
        "predict_images_per_s": [round(one, 1) for one in rates],
        "serve_efficiency": round(many["images_per_s"] / of_predict, 3),
        "single_efficiency": round(single["images_per_s"] / of_predict, 3),
        "added_ms_p50": round(added, 1),
        "p50_ms_half_load": round(1e3 * half["p50_s"], 1),
        "p99_over_p50": round(half["p99_s"] / half["p50_s"], 2),
        "overload": over,
    }
    for key, value in figures.items():
        print(f"{name:8} {key:22} {value}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few images, about two minutes")
    parser.add_argument("--minutes", type=float, help="of overload; 10, or a quarter if quick")
    parser.add_argument("--only", choices=("demo", "commfor"), help="one network alone")
    given = parser.parse_args()
    minutes = given.minutes or (0.25 if given.quick else 10.0)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, sides, count in (("demo", DEMO_SIDES, 2000), ("commfor", SIDES, 300)):
            if given.only not in (None, name):
                continue
            lay_out(folder / name, count // 10 if given.quick else count, sides=sides)
            detector = str(folder / f"{name}-detector")
            made_of = detector_of("highpass-small", DEMO_SIDES[0]) if name == "demo" else commfor()
            save_detector(made_of, open_store(detector))
            figures[name] = measure(name, detector, folder / name / "images", given.quick, minutes)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
