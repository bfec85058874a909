"""The perturbed set is the same on 1 and 3 raylets, and after a kill; clusters of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import load_scheme
from rayapp.perturb.manifest_rows import Tally, expand, manifest_schema, row_schema
from rayapp.perturb.variants import PerturbRows
from rayapp.storage.uris import open_store
from rayapp.transforms import load_perturbation
from tests.perturb.sets import make_published, make_set, odd_files, outcome
from tests.transforms.test_published_draws import sequential_replay

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.drill
_PARTS = "parts/perturb/[!.]*"  # whole ones: a part that is being written has a dot before it


def command(folder, output, *more):
    lists = sorted(str(path) for path in folder.glob("test*.txt"))
    return [
        *(sys.executable, str(ROOT / "jobs/perturb.py"), "--scheme", "demo"),
        *("--annotations", *lists, "--root", str(folder), "--output", str(output), *more),
    ]


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"} | more


def run_job(folder, output, *more, **env):
    return subprocess.run(
        command(folder, output, *more), env=environment(**env), capture_output=True, text=True
    )


@contextlib.contextmanager
def raylets(count):
    """The address of a cluster of so many nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def pixels_without_ray(folder, output, perturbation, names):
    """What run.json calls pixels_sha256, worked out in this process."""
    work = PerturbRows(open_store(folder), open_store(output), load_perturbation(perturbation), 42)
    work.setup()
    found = Tally(work.perturbation.variant_names)
    for at, name in enumerate(sorted(names)):
        (row,) = work.batch([{"id": name, "path": name, "name": f"{at}.webp"}])
        row |= dict.fromkeys(("origin", "content", "generator", "model"), 0)
        scheme = load_scheme("demo")
        done = manifest.from_rows([row], row_schema(scheme))
        found.add(expand(done, manifest_schema(scheme), work.perturbation.variant_names))
    return found.pixels_sha256


@pytest.mark.first
def test_killed_and_resumed_it_makes_the_same_set_and_says_nothing_else(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    listed = make_set(folder, 160, (200, 300))
    odd = odd_files()
    for name, (data, _) in odd.items():
        (folder / name).write_bytes(data)
    with listed.open("a") as file:
        file.writelines(f"{name},0,0,4,4\n" for name in odd)
    options = ("--perturbation", "blur-grid", "--cpus", "2")
    with subprocess.Popen(
        command(folder, output, *options),
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and not list(output.glob(_PARTS)):
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.05)
        assert process.poll() is None, "done before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    (output / "parts/perturb/.1-killed.part").write_bytes(b"cut off")
    os.utime(output / "parts/perturb/.1-killed.part", (1, 1))
    there = {path: path.stat().st_mtime_ns for path in output.rglob("*.webp")}
    finished = sum(pq.read_metadata(part).num_rows for part in output.glob(_PARTS))
    assert 0 < finished < 160

    done = run_job(folder, output, *options)
    failing = sum(bool(word) for _, word in odd.values())
    assert done.returncode == 3, done.stderr
    counts = {"in": 160 + len(odd), "failed": failing, "skipped": 0}
    counts["written"] = (counts["in"] - failing) * 5
    assert outcome(output)["counts"] == counts
    assert "not perturbed: empty.jpg: empty file (0 bytes)" in done.stdout
    remarks = [line for line in done.stderr.splitlines() if not line.startswith("perturb: ")]
    assert remarks == []  # neither Ray nor a decoder speaks
    kept = [path for path, when in there.items() if path.stat().st_mtime_ns == when]
    assert len(kept) >= (finished - len(odd)) * 5  # those were not done again
    assert not list(output.rglob("*.part"))  # what the killed run was writing is swept up
    names = [f"images/{path.name}" for path in (folder / "images").iterdir()]
    expected = pixels_without_ray(folder, tmp_path / "bare", "blur-grid", [*names, *odd])
    assert outcome(output)["results"]["pixels_sha256"] == expected
    for row in pq.read_table(output / "manifest.parquet").to_pylist():
        if row["status"] == "ok":
            assert sha256((output / row["path"]).read_bytes()) == row["sha256"]


def test_one_and_three_raylets_and_shuffled_lists_make_the_same_set(tmp_path):
    folder = tmp_path / "in"
    listed = make_set(folder, 90)
    results = {}
    for count in (1, 3):
        with raylets(count) as address:
            run = run_job(folder, tmp_path / str(count), RAY_ADDRESS=address)
        assert run.returncode == 0, run.stderr
        results[count] = outcome(tmp_path / str(count))
    lines = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join(lines[::-1]))
    assert run_job(folder, tmp_path / "reversed", "--cpus", "2").returncode == 0
    results["reversed"] = outcome(tmp_path / "reversed")
    assert len({one["results"]["pixels_sha256"] for one in results.values()}) == 1


def test_local_and_s3_hold_the_same_files(tmp_path, s3):
    folder, there = tmp_path / "in", f"s3://{s3.bucket}/perturb"
    make_set(folder, 20)
    (folder / "images/0003.jpg").write_bytes(b"")
    inputs, output = open_store(f"{there}/in"), open_store(f"{there}/out")
    for file in (folder / "images").iterdir():
        inputs.put(f"images/{file.name}", file.read_bytes())
    local = run_job(folder, tmp_path / "out", "--cpus", "2")
    remote = run_job(folder, f"{there}/out", "--root", inputs.root, "--cpus", "2", **s3.environment)
    assert (local.returncode, remote.returncode) == (3, 3), remote.stderr
    assert json.loads(output.get("run.json"))["counts"] == outcome(tmp_path / "out")["counts"]
    made = [path for path in (tmp_path / "out/testset").rglob("*") if path.is_file()]
    assert len(made) == 19
    for path in made:
        assert output.get(path.relative_to(tmp_path / "out").as_posix()) == path.read_bytes()
    again = run_job(folder, f"{there}/out", "--root", inputs.root, "--cpus", "2", **s3.environment)
    assert again.returncode == 3  # and only the failed image was tried again
    assert "perturb: 19 of 20 images" in again.stderr


def test_published_draws_are_those_of_the_sequential_replay(tmp_path):
    folder = tmp_path / "in"
    lists = make_published(folder)
    paths = [[line.split(",")[0] for line in one.read_text().splitlines()] for one in lists]
    sizes = [[Image.open(folder / path).size[::-1] for path in named] for named in paths]
    draws = [draw for drawn in sequential_replay(sizes) for draw in drawn]
    flat = [size for named in sizes for size in named]
    expected = [draw.plan(size).to_json() for draw, size in zip(draws, flat, strict=True)]
    options = ("--draws", "published")
    hashes = set()
    for count in (1, 3):
        output = tmp_path / str(count)
        with raylets(count) as address:
            if count == 3:  # killed on the way, then resumed
                _killed(command(folder, output, *options), output, RAY_ADDRESS=address)
            run = run_job(folder, output, *options, RAY_ADDRESS=address)
        assert run.returncode == 0, run.stderr
        rows = pq.read_table(output / "manifest.parquet").to_pylist()
        made = {int(Path(row["path"]).stem): row["plan"] for row in rows}
        assert [made[index] for index in range(len(flat))] == expected
        hashes.add(outcome(output)["results"]["pixels_sha256"])
    assert len(hashes) == 1


def _killed(command, output, **env):
    with subprocess.Popen(command, env=environment(**env), stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and len(list(output.rglob("*.webp"))) < 100:
            assert time.monotonic() < deadline, "nothing was written"
            time.sleep(0.05)
        assert process.poll() is None, "done before it could be killed"
        process.kill()
