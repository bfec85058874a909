"""Is every awkward file scored or named, and does none take more than a gigabyte?

    python benchmarks/odd.py [FOLDER] [--quick]

The predict job scores the folder (default: ../shared/odd) with a small network of random weights
that sees 256 px. Then each file, and some made here to fill the memory (a thread of 2 × 20,000 px
under the view `resize`, the largest picture that is read, bombs), is scored by itself by the same
code; the memory that it takes is the rise of the process's peak. The last line is JSON: images
`scored`, `unsure` for want of anything to judge, `named` with their error, files `lost` without a
word, and `peak_mb`, the most that one file takes.
"""

import argparse
import io
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from rayapp.models.folder import save_detector
from rayapp.models.nothing_to_judge import kind_of
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared/odd"
QUICK = 20  # files that are scored by themselves


def score(folder: Path, detector: Path, output: Path) -> tuple[dict[str, int], dict[str, str]]:
    """How many files are what, and of those named their error."""
    command = [sys.executable, str(ROOT / "jobs/predict.py"), "--detector", str(detector)]
    command += ["--input", str(folder), "--output", str(output), "--gallery", "0"]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if ended not in (0, 3):
        raise SystemExit(f"predict ended with code {ended}")
    rows = pq.read_table(output / "scores.parquet").to_pylist()
    results = json.loads((output / "run.json").read_text())["results"]
    named = {row["path"]: row["error"] for row in rows if row["status"] != "ok"}
    reasons = Counter(kind_of(row["reason"]) for row in rows if row["reason"])
    there = sum(path.is_file() for path in folder.rglob("*"))
    print(f"unsure: {dict(reasons)}")
    print(f"{there} files, left out as no images: {results['left_out'] or 'none'}")
    counts = {
        "scored": len(rows) - len(named) - reasons.total(),
        "unsure": reasons.total(),
        "named": len(named),
        "lost": there - len(rows) - sum(results["left_out"].values()),
    }
    return counts, named


def hoggish() -> Iterator[tuple[str, bytes]]:
    """Files made to fill the memory."""
    yield "thread.png", _png(2, 20_000)
    yield "largest.png", _png(11_585, 11_585)
    yield "bomb.png", _png(60_000, 60_000, rows=10)
    frames = [Image.new("P", (4000, 4000), shade) for shade in range(3)]
    sink = io.BytesIO()
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:] * 40)
    yield "frames.gif", sink.getvalue()


def _png(width: int, height: int, rows: int | None = None) -> bytes:
    """An RGB PNG that shows a gradient; of so many rows only, where given."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    row = b"\0" + np.linspace(0, 255, 3 * width).astype(np.uint8).tobytes()
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def taken_mb(folder: Path, work: PredictRows, name: str) -> float:
    """What the peak of this process rises by while one file is scored."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before = _memory_kb("VmRSS")
    work.batch([{"id": name, "path": name}])
    return (_memory_kb("VmHWM") - before) / 1024


def _memory_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--quick", action="store_true", help=f"the memory of {QUICK} files only")
    given = parser.parse_args()
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        save_detector(tiny_detector(size=256), open_store(made / "detector"))
        figures, named = score(given.folder, made / "detector", made / "output")
        for path, error in named.items():
            print(f"  {path}: {error}")
        (made / "hogs").mkdir()
        for name, data in hoggish():
            (made / "hogs" / name).write_bytes(data)
        for view in ("resize", "centre"):
            spec = ScorerSpec(str(made / "detector"), view=view, at_once=1)
            for folder in (made / "hogs", given.folder):
                work = PredictRows(spec, open_store(folder), 1)
                work.setup()
                files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
                for path in files[: QUICK if given.quick else None]:
                    key = path.relative_to(folder).as_posix()
                    peaks[f"{key} ({view})"] = taken_mb(folder, work, key)
    for name in sorted(peaks, key=peaks.__getitem__, reverse=True)[:8]:
        print(f"{peaks[name]:8.0f} MB  {name}")
    print(json.dumps({**figures, "peak_mb": round(max(peaks.values()))}))


if __name__ == "__main__":
    main()
