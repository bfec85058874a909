"""How stages grow with nodes, and what the driver bears: figures for docs/scaling.md.

    python benchmarks/scaling.py [--quick] [--only waits|download|perturb|driver|items|model …]

waits: rows of 50 ms of waiting in place of work, on 1 and on 16 raylets of one CPU each, all on
this machine: what is measured is Ray and `rows.map_rows`, not the work. download: single files from
a server that takes 50 ms to answer, by 1 and by 8 processes of one request each. perturb: on 1 and
on 16 cores, where there are so many. driver: memory and time of the process that holds the work
list, for 10⁶ (and, not with --quick, 10⁷) rows. items: CPU seconds of one image in each stage.
model: the tables of docs/scaling.md, reckoned by `rayapp.benchmark.costs`, not measured.

A rate is taken while all workers are at work: starting them is not counted. The last line is one
JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.photographs import lay_out
from rayapp.benchmark import costs
from rayapp.benchmark.costs import Fleet, Work
from rayapp.cluster.map_rows import map_rows
from rayapp.config.settings import JobSettings
from rayapp.dataset import manifest
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.run import record, row_work
from rayapp.storage.uris import open_store
from tests.doubles.server import Server, Spawned, files_handler
from tests.download.helpers import jpeg

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 0.05
BATCH = 16  # as that of perturb and predict
LATENCY_S = 0.05
Figures = dict[str, float]


# --- rows that wait -------------------------------------------------------------------------------


@dataclass
class Waiting:
    """Row work that waits instead of working, and says when and where it was done."""

    def setup(self) -> None:
        """Nothing to load."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Each row after its wait."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        time.sleep(WAIT_S)
        return {"finished": time.time(), "worker": str(os.getpid())}


@contextmanager
def raylets(count: int) -> Iterator[str]:
    """The address of so many raylets of one CPU each, the head without any."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def steady_rate(finished: np.ndarray, workers: np.ndarray) -> float:
    """Rows a second from when the last worker has begun until the first one has no more."""
    begins = [finished[workers == one].min() for one in np.unique(workers)]
    ends = [finished[workers == one].max() for one in np.unique(workers)]
    start, stop = max(begins), min(ends)
    return float(((finished > start) & (finished <= stop)).sum() / (stop - start))


def waits_on(count: int, seconds: float) -> float:
    """Rows a second on so many raylets."""
    schema = manifest.schema(None, {"finished": pa.float64(), "worker": pa.string()})
    num_rows = int(count * seconds / WAIT_S)
    work = pa.table({"id": [f"{n:08}" for n in range(num_rows)]})
    with raylets(count) as address, tempfile.TemporaryDirectory() as folder:
        os.environ["RAY_ADDRESS"] = address
        run = record.start("waits", JobSettings(output=folder), {}, output=folder, overwrite=False)
        done = map_rows(work, Waiting(), schema, run=run, batch_size=BATCH).table()
        del os.environ["RAY_ADDRESS"]
    workers = np.array(done["worker"].to_pylist())
    assert done.num_rows == num_rows
    print(f"  {count} raylets: {len(np.unique(workers))} workers, {num_rows:,} rows", flush=True)
    return steady_rate(done["finished"].to_numpy(), workers)


def waits_part(quick: bool) -> Figures:
    many = 4 if quick else 16
    seconds = 4.0 if quick else 25.0
    one, all_ = waits_on(1, seconds), waits_on(many, seconds)
    print(f"  {one:.1f} rows/s on 1, {all_:.1f} on {many}")
    return {f"wait_scaling_{many}": round(all_ / one, 2)}


# --- download -------------------------------------------------------------------------------------


def photo_server(count: int) -> Server:
    """So many single files, each answered after 50 ms."""
    files: dict[str, bytes | memoryview] = {f"/{n:06}.jpg": jpeg(n % 50) for n in range(count)}
    return Server(files_handler(files), latency_s=LATENCY_S)


def download_rate(folder: Path, workers: int, count: int) -> float:
    """Images a second while between a fifth and four fifths of them are fetched."""
    (folder / "list.txt").write_text(
        "".join(f"train2017/{n:06}.jpg,0,0,4,8\n" for n in range(count))
    )
    with Spawned(photo_server, count) as server:
        book = folder / "sources.yaml"
        book.write_text(
            "origins: {}\nsources:\n  photos:\n    about: single photographs\n    form: files\n"
            f"    at: ['{server.url}/{{name}}']\n    paths: {{train2017/: ''}}\n"
        )
        command = [sys.executable, str(ROOT / "jobs/download.py"), "--output", str(folder / "out")]
        command += ["--catalogue", str(book), "--sources", "photos", "--cpus", "8"]
        command += ["--annotations", str(folder / "list.txt"), "--num-workers", str(workers)]
        command += ["--threads", "1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seen: list[tuple[float, int]] = []
        while process.poll() is None:
            seen.append((time.monotonic(), server.counters()[0]))
            time.sleep(0.2)
        if process.returncode:
            raise SystemExit(f"the download ended with {process.returncode}")
    total = seen[-1][1]
    within = [(when, done) for when, done in seen if 0.2 * total < done < 0.8 * total]
    return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])


def download_part(quick: bool) -> Figures:
    many = 4 if quick else 8
    rates = []
    for workers in (1, many):
        with tempfile.TemporaryDirectory() as name:
            rates.append(download_rate(Path(name), workers, workers * (150 if quick else 500)))
    print(f"  {rates[0]:.1f} images/s by 1 process, {rates[1]:.1f} by {many}")
    return {f"download_scaling_{many}": round(rates[1] / rates[0], 2)}


# --- perturbation ---------------------------------------------------------------------------------


def perturb_s(cpus: int, images_a_core: int) -> float:
    """Seconds that so many cores take for so many photographs each, their start left out."""
    import ray

    from rayapp.cluster.session import kept_open, session
    from rayapp.jobs.perturb import perturb
    from rayapp.perturb.settings import PerturbSettings

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = PerturbSettings(
            annotations=(str(lay_out(folder / "in", images_a_core * cpus)),),
            root=str(folder / "in"),
            scheme="demo",
            output=str(folder / "out"),
            cpus=cpus,
            on_ray=True,
        )
        with kept_open(), session(settings):
            ray.cluster_resources()
            return float(perturb(settings).found["seconds"])


def perturb_part(quick: bool) -> Figures:
    cores = os.cpu_count() or 1
    if cores < 16:
        print(f"  {cores} cores here: efficiency on 16 is not measured")
        return {}
    seconds = {cpus: perturb_s(cpus, 30 if quick else 600) for cpus in (1, 16)}
    print(f"  as many images a core: {seconds[1]:.1f} s on 1 core, {seconds[16]:.1f} s on 16")
    return {"perturb_efficiency_16": round(seconds[1] / seconds[16], 3)}


# --- the driver -----------------------------------------------------------------------------------


def memory_mb(field: str) -> float:
    """VmRSS, what this process holds, or VmHWM, the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def forget_peak() -> None:
    """Importing takes more than it keeps; that is not counted."""
    Path("/proc/self/clear_refs").write_text("5")


def bear_list(count: int) -> None:
    """Read a list of so many lines, as a stage does before it starts; prints seconds and MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.txt")
        with path.open("w") as file:
            file.writelines(f"train2017/{n:012}.jpg,0,0,4,8\n" for n in range(count))
        forget_peak()
        before, start = memory_mb("VmRSS"), time.monotonic()
        scheme = load_scheme("imaginet")
        table = manifest.item_rows(read_list(path, scheme).items, scheme)
        assert table.num_rows == count
        print(json.dumps([time.monotonic() - start, memory_mb("VmHWM") - before]))


def bear_rows(count: int) -> None:
    """Keep so many finished rows as parts and write the manifest of them."""
    from rayapp.run.row_parts import Parts

    schema = manifest.schema(load_scheme("imaginet"))
    order = np.random.default_rng(0).permutation(count // 4096 + 1)  # blocks end in any order
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        forget_peak()
        before, start = memory_mb("VmRSS"), time.monotonic()
        parts = Parts(store, "bench", schema)
        for block in order:
            numbers = range(int(block) * 4096, min((int(block) + 1) * 4096, count))
            if numbers:
                names = [f"train2017/{n:012}.jpg" for n in numbers]
                made = {"id": names, "path": names, "status": ["ok"] * len(names)}
                made |= {"error": [""] * len(names), "sha256": ["0" * 64] * len(names)}
                rest = {n: [None] * len(names) for n in schema.names if n not in made}
                parts.write([pa.table({**made, **rest}).select(schema.names).cast(schema)])
        manifest.write_chunks(store, "manifest.parquet", parts.chunks(), schema)
        assert parts.num_rows == count
        print(json.dumps([time.monotonic() - start, memory_mb("VmHWM") - before]))


def borne(what: str, count: int) -> tuple[float, float]:
    """Seconds and MB of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--bear", what, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    seconds, grown = json.loads(done.stdout.splitlines()[-1])
    print(f"  {count:>11,} rows, {what}: {seconds:.1f} s, {grown:,.0f} MB", flush=True)
    return seconds, grown


def driver_part(quick: bool) -> Figures:
    figures: Figures = {}
    for count in (100_000,) if quick else (1_000_000, 10_000_000):
        for what in ("list", "rows"):
            seconds, grown = borne(what, count)
            figures[f"driver_{what}_{count:.0e}_s".replace("+0", "")] = round(seconds, 1)
            figures[f"driver_{what}_{count:.0e}_mb".replace("+0", "")] = round(grown)
    return figures


# --- one image ------------------------------------------------------------------------------------


def cpu_of(work: Callable[[], object], count: int) -> float:
    """CPU seconds of one of so many."""
    work()  # the first run loads and allocates
    start = time.process_time()
    work()
    return (time.process_time() - start) / count


def items_part(quick: bool) -> Figures:
    import cv2
    import torch

    from rayapp.dataset.images import decode
    from rayapp.pack.tile_rows import PackRows
    from rayapp.perturb.variants import PerturbRows
    from rayapp.transforms import load_perturbation

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    count = 20 if quick else 90
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder / "in", count, distinct=count)
        source, out = open_store(folder / "in"), open_store(folder / "out")
        paths = sorted((folder / "in/images").iterdir())
        work = [{"id": p.name, "path": f"images/{p.name}", "name": f"{p.stem}.webp"} for p in paths]
        perturbing = PerturbRows(source, out, load_perturbation("imaginet-test"), 42)
        packing = PackRows(source, out, "webp", 128)
        for one in (perturbing, packing):
            one.setup()
        figures = {
            "cpu_s_perturb": cpu_of(lambda: perturbing.batch(work), count),
            "cpu_s_pack": cpu_of(lambda: packing.batch(work), count),
            "cpu_s_decode": cpu_of(lambda: [decode(p.read_bytes()) for p in paths], count),
        }
    return {name: round(value, 4) for name, value in figures.items()}


# --- the model ------------------------------------------------------------------------------------

SIZES = {"ImagiNet": 200_000, "10 million": 10_000_000, "1 billion": 1_000_000_000}
NODES = (1, 10, 100)
NODE_CPUS, NODE_BYTES_PER_S = 16, 400e6  # of a node; the network is what one sustains


@dataclass(frozen=True)
class Prices:
    """What things cost, in one currency."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    million_requests: float = 0.0
    gb_read: float = 0.0

    def of(self, work: Work) -> float:
        """The price of the work: machines, requests, and bytes that leave a source."""
        return (
            work.cpu_s / 3600 * self.cpu_hour
            + work.gpu_s / 3600 * self.gpu_hour
            + work.requests / 1e6 * self.million_requests
            + work.read_bytes / 1e9 * self.gb_read
        )


EXAMPLE = Prices(cpu_hour=0.02, gpu_hour=2.0, million_requests=2.0)


def model(images: int) -> dict[str, Work]:
    """What each stage takes where all images are downloaded and scored, and a fifth perturbed."""
    return {
        "download": costs.download(images, images * costs.IMAGE_BYTES),
        "prune": costs.prune(images),
        "perturb": costs.perturb(images // 5),
        "pack": costs.pack(images * 4 // 5),
        "train, 64 M crops": costs.train(160_000, 400, gpu=True),
        "predict": costs.predict(images, gpu=True, image_bytes=costs.IMAGE_BYTES),
        "evaluate": costs.evaluate(images),
    }


def model_tables() -> str:
    """A Markdown table for each size: hours on 1, 10 and 100 nodes, what limits, and the price."""
    text = []
    for name, images in SIZES.items():
        text += [f"**{name}** ({images:,} images)", ""]
        heads = [f"{n} node{'s' * (n > 1)}" for n in NODES]
        text += [f"| step | CPU h | GPU h | {' | '.join(heads)} | price |", "|---|" + "--:|" * 6]
        for stage, work in model(images).items():
            takes = []
            for nodes in NODES:
                # One GPU a node; the batch of training is too small for more than eight.
                gpus = min(nodes, 8) if stage.startswith("train") else nodes
                fleet = Fleet(NODE_CPUS * nodes, gpus, NODE_BYTES_PER_S * nodes)
                seconds, limit = fleet.seconds(work)
                takes.append(f"{record.duration(seconds)} ({limit})")
            hours = f"{work.cpu_s / 3600:,.1f} | {work.gpu_s / 3600:,.1f}"
            price = f"{EXAMPLE.of(work):,.2f}"
            text.append(f"| {stage} | {hours} | {' | '.join(takes)} | {price} |")
        text.append("")
    return "\n".join(text)


def model_part(quick: bool) -> Figures:
    print(model_tables())
    return {}


PARTS = {
    "waits": waits_part,
    "download": download_part,
    "perturb": perturb_part,
    "driver": driver_part,
    "items": items_part,
    "model": model_part,
}

QUICK = ("waits", "driver", "items")  # a download of seconds is over before its processes are even


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="smaller counts, within a minute")
    parser.add_argument("--only", nargs="+", choices=list(PARTS))
    parser.add_argument("--bear", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is None:
        options.only = list(QUICK if options.quick else PARTS)
    if options.bear:
        {"list": bear_list, "rows": bear_rows}[options.bear[0]](int(options.bear[1]))
        return
    figures: Figures = {}
    for part in options.only:
        print(part, flush=True)
        figures |= PARTS[part](options.quick)
    for name, value in figures.items():
        print(f"{name:<28}{value:>12,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    main()
