"""What the download costs, against doubles with 10 ms latency; `--quick` ends within a minute.

PYTHONPATH=. python benchmarks/download.py [--quick] [--part zip|index|drive|driver …]

The servers are the tests' (tests/doubles), each in a process of its own. Figures are measured on
this machine, the compared method beside ours in the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import remotezip
from PIL import Image

from rayapp.dataset.images import decode
from rayapp.dataset.labels import load_scheme
from rayapp.download import ledger, wanted
from rayapp.download.archives import zip_spans, zips
from rayapp.download.archives.names import Wanted
from rayapp.download.fetch_task import Worker
from rayapp.download.origins.access import Access
from rayapp.download.origins.catalogue import Catalogue
from rayapp.download.origins.ranges import LocalReader
from rayapp.download.origins.reader import Plain
from rayapp.download.origins.transport import HttpReader, new_pool
from rayapp.download.source_plan import Planner
from rayapp.run.concurrency import as_completed
from rayapp.storage.uris import open_store
from tests.doubles.drive import Drive
from tests.doubles.server import Server, Spawned, files_handler

LATENCY_S = 0.010
MEMBER_BYTES = 110_000
Figures = dict[str, float]
_service: Any = None


# --- ZIP over ranges ------------------------------------------------------------------------------


def zip_server(num_members: int) -> Server:
    """20,000 stored members, each of its own content."""
    content = bytearray(np.random.default_rng(0).integers(0, 256, MEMBER_BYTES, np.uint8).tobytes())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(num_members):
            content[:8] = number.to_bytes(8, "little")
            archive.writestr(f"imgs/{number:06}.jpg", bytes(content))
    return Server(files_handler({"/a.zip": out.getvalue()}), latency_s=LATENCY_S)


def span_contents(reader: HttpReader, span: zip_spans.Span) -> list[tuple[zips.Member, object]]:
    return list(zip_spans.read_span(reader, span))


def zip_part(quick: bool) -> Figures:
    names = {f"imgs/{n:06}.jpg" for n in random.Random(1).sample(range(20_000), 600)}
    theirs = sorted(names)[: 60 if quick else 600]
    with Spawned(zip_server, 20_000) as server:
        url = f"{server.url}/a.zip"
        best = (0.0, 0.0)
        for _ in range(3):
            before = server.counters()[1]
            start = time.perf_counter()
            reader = HttpReader("zip", Plain(url), new_pool(32))
            index = zips.read_index(reader, Wanted(names))
            got = 0
            for span in as_completed(
                partial(span_contents, reader), zip_spans.coalesce(index.members), 32
            ):
                got += sum(isinstance(content, bytes) for _, content in span)
            rate = got / (time.perf_counter() - start)
            assert got == len(names)
            wanted_bytes = got * MEMBER_BYTES
            moved = server.counters()[1] - before - index.num_directory_bytes
            best = max(best, (rate, moved / wanted_bytes))
        start = time.perf_counter()
        with remotezip.RemoteZip(url, headers={"Accept-Encoding": "identity"}) as archive:
            opened = time.perf_counter()
            for name in theirs:
                archive.read(name)
        # its opening is charged in proportion where only a part is read
        seconds = (opened - start) * len(theirs) / 600 + time.perf_counter() - opened
        remote_rate = len(theirs) / seconds
    return {
        "zip_bytes_ratio": round(best[1], 3),
        "zip_images_per_s": round(best[0], 1),
        "zip_speedup_vs_remotezip": round(best[0] / remote_rate, 2),
    }


# --- a central directory of 1.9 million entries ---------------------------------------------------


def write_directory(path: Path, count: int) -> None:
    """An archive that is a ZIP64 central directory and nothing else."""
    entries = bytearray()
    head = struct.Struct("<4s6H3I5H2I")
    for number in range(count):
        name = b"ILSVRC/Data/CLS-LOC/train/n%08d/n_%08d.JPEG" % (number // 1300, number)
        fields = (20, 20, 0, 0, 0, 0, 1, 110_000, 110_000, len(name), 0, 0, 0, 0, 0, 0)
        entries += head.pack(b"PK\x01\x02", *fields) + name
    size = len(entries)
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, 1 << 20)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, (1 << 20) + size, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    path.write_bytes(bytes(1 << 20) + entries + end + locator + last)


def index_once(path: str, count: int, out: multiprocessing.Queue[tuple[float, float]]) -> None:
    rng = random.Random(2)
    numbers = rng.sample(range(count), 7_500)
    names = Wanted({f"ILSVRC/Data/CLS-LOC/train/n{n // 1300:08}/n_{n:08}.JPEG" for n in numbers})
    before = resident_kb("VmRSS")
    start = time.perf_counter()
    index = zips.read_index(LocalReader(Path(path)), names)
    seconds = time.perf_counter() - start
    assert len(index.members) == len(numbers)
    out.put((seconds, (resident_kb("VmHWM") - before) / 1024))


def resident_kb(field: str) -> int:
    """Memory of this process: VmRSS now, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def index_part(quick: bool) -> Figures:
    del quick  # it takes seconds as it is
    count = 1_900_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        write_directory(path, count)
        results = [in_process(index_once, str(path), count) for _ in range(3)]
    return {
        "index_1900k_s": round(min(s for s, _ in results), 2),
        "index_1900k_mb": round(max(mb for _, mb in results), 1),
    }


def in_process(work: Callable[..., None], *arguments: object) -> Any:
    """`work(*arguments, queue)` in a process of its own; what it puts."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    process = context.Process(target=work, args=(*arguments, out))
    process.start()
    result = out.get(timeout=600)
    process.join()
    return result


# --- Google Drive, single files -------------------------------------------------------------------


def face(side: int) -> bytes:
    """A PNG of about the size of FFHQ's: a smooth picture with a little noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:side, 0:side] / side
    smooth = np.stack([x, y, (x + y) / 2], -1) * 200
    pixels = (smooth + rng.integers(0, 3, (side, side, 3))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def drive_server(folder: str, count: int, side: int, rate: float | None) -> Server:
    """A Drive of `count` files, whose account file is written into `folder`."""
    double = Drive(rate)
    data = face(side)
    double.files = {f"id{n}": data for n in range(count)}
    server = double.server(LATENCY_S)

    class Announced(type(server)):  # type: ignore[misc]
        def __enter__(self):  # type: ignore[no-untyped-def]
            super().__enter__()
            double.write_account(Path(folder, "account.json"), self.url)
            return self

        @property
        def bytes_sent(self) -> int:
            return double.served * 1_000_000 + double.refused

        @bytes_sent.setter
        def bytes_sent(self, value: int) -> None:
            """Served and refused downloads are what is asked of this server."""

    server.__class__ = Announced
    return server


def ours_on_drive(folder: str, url: str, count: int, md5: str, rate: float | None) -> float:
    """Plan and fetch `count` files of the FFHQ form in this process; seconds of the fetching."""
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(Path(folder, "account.json"))
    listing = Path(folder, "ffhq.txt")
    listing.write_text("".join(f"id{n},{n}.png,{md5}\n" for n in range(count)))
    lines = Path(folder, "list.txt")
    lines.write_text("".join(f"ffhq/{n}.png,0,2,4,8\n" for n in range(count)))
    origin = {"endpoint": url} | ({"units_per_s": rate} if rate else {})
    entry = {
        "about": "faces",
        "at": ["drive://x/"],
        "form": "ffhq",
        "listing": str(listing),
        "paths": {"ffhq/": ""},
    }
    book = Catalogue.model_validate({"origins": {"drive": origin}, "sources": {"ffhq": entry}})
    scheme, store = load_scheme("imaginet"), open_store(str(Path(folder, "out")))
    wanted.cut_up(store, [str(lines)], scheme, book.sources)
    access = Access(book)
    plan = Planner(store, access, scheme, "ffhq", book.sources["ffhq"]).make(None)
    worker = Worker(store, access, scheme, book.sources, 16)
    start = time.perf_counter()
    failed = sum(done.num_failed for task in plan.tasks for done in worker.run(task))
    seconds = time.perf_counter() - start
    assert failed == 0
    assert len(ledger.best_rows(store, "ffhq")) == count
    return seconds


def original_start(account: str, url: str) -> None:
    """A process of the original's pool: one client for all its files."""
    import google_auth_httplib2
    import httplib2
    from google.oauth2 import service_account
    from googleapiclient.discovery import build

    global _service
    scopes = ["https://www.googleapis.com/auth/drive.readonly"]
    credentials = service_account.Credentials.from_service_account_file(account, scopes=scopes)
    http = google_auth_httplib2.AuthorizedHttp(credentials, http=httplib2.Http())
    _service = build(
        "drive",
        "v3",
        http=http,
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": f"{url}/drive/v3/"},
    )


def original_one(job: tuple[str, str, str]) -> bool:
    """MediaIoBaseDownload, decode, md5 of the pixels, and write a new PNG."""
    from googleapiclient.http import MediaIoBaseDownload

    file_id, md5, target = job
    data = io.BytesIO()
    download = MediaIoBaseDownload(data, _service.files().get_media(fileId=file_id))
    done = False
    while not done:
        _, done = download.next_chunk()
    image = Image.open(data)
    good = hashlib.md5(np.array(image).tobytes()).hexdigest() == md5
    image.save(target)
    return good


def theirs_on_drive(folder: str, url: str, count: int, md5: str, processes: int) -> float:
    account = str(Path(folder, "account.json"))
    Path(folder, "theirs").mkdir()
    jobs = [(f"id{n}", md5, str(Path(folder, "theirs", f"{n}.png"))) for n in range(count)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, original_start, (account, url)) as pool:
        pool.map(original_one, jobs[:processes], chunksize=1)  # the processes are up
        start = time.perf_counter()
        good = list(pool.imap_unordered(original_one, jobs))
        seconds = time.perf_counter() - start
    assert all(good)
    return seconds


def drive_part(quick: bool) -> Figures:
    # Their rate is steady, and at theirs 2,000 files take half an hour: a part of them is timed.
    ours, theirs, processes = (60, 12, 4) if quick else (2_000, 400, 20)
    side = 1024
    md5 = hashlib.md5(decode(face(side)).pixels_HWC.tobytes()).hexdigest()
    with (
        tempfile.TemporaryDirectory() as folder,
        Spawned(drive_server, folder, ours, side, None) as server,
    ):
        our_rate = ours / ours_on_drive(folder, server.url, ours, md5, None)
        their_rate = theirs / theirs_on_drive(folder, server.url, theirs, md5, processes)
    count, rate = (135 if quick else 1_080), 27.0
    small = hashlib.md5(decode(face(128)).pixels_HWC.tobytes()).hexdigest()
    with (
        tempfile.TemporaryDirectory() as folder,
        Spawned(drive_server, folder, count, 128, rate) as server,
    ):
        seconds = ours_on_drive(folder, server.url, count, small, rate)
        served, refused = divmod(server.counters()[1], 1_000_000)
    return {
        "drive_speedup": round(our_rate / their_rate, 2),
        "drive_images_per_s": round(our_rate, 1),
        "drive_quota_efficiency": round(min(count / seconds / rate, 1.0), 3),
        "drive_refused_share": round(refused / (served + refused), 4),
    }


# --- memory of the driver -------------------------------------------------------------------------


def driver_mb(folder: Path, count: int, dry: bool) -> float:
    """Peak resident MB of the driver for a job of `count` images that a fake transport misses."""
    listing = folder / f"{count}.txt"
    with listing.open("w") as file:
        file.writelines(f"train2017/{n:012}.jpg,0,0,4,8\n" for n in range(count))
    book = folder / "sources.yaml"
    book.write_text(
        "origins: {}\nsources:\n  fake:\n    about: a folder that holds nothing\n"
        f"    at: ['{folder}/none/{{name}}']\n    form: files\n    paths: {{train2017/: ''}}\n"
    )
    root = Path(__file__).resolve().parents[1]
    command = [
        sys.executable,
        str(root / "jobs/download.py"),
        "--output",
        str(folder / f"r{count}{dry}"),
    ]
    command += ["--sources", "fake", "--annotations", str(listing), "--catalogue", str(book)]
    command += ["--cpus", "2", *(["--dry-run"] if dry else [])]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max(
            [peak, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)]
        )
        time.sleep(0.1)
    assert process.wait() in (0, 3), command
    return peak / 1024


def driver_part(quick: bool) -> Figures:
    large = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = [
            driver_mb(folder, large, dry) - driver_mb(folder, 10_000, dry)
            for dry in ((True,) if quick else (True, False))
        ]
    return {"driver_growth_mb": round(max(grown), 1)}


PARTS = {"zip": zip_part, "index": index_part, "drive": drive_part, "driver": driver_part}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller counts, within a minute")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    figures: Figures = {}
    for part in options.part:
        start = time.perf_counter()
        found = PARTS[part](options.quick)
        for name, value in found.items():
            print(f"{name:<28}{value:>12,}")
        print(f"  ({part}: {time.perf_counter() - start:.1f} s)", flush=True)
        figures |= found
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
