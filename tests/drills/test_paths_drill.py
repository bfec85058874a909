"""Relative paths in every job: on its own Ray, on a cluster, and handed in by `ray job submit`."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import yaml

from rayapp.metrics.traffic import Traffic
from tests.detectors import saved_detector
from tests.doubles.s3 import free_ports
from tests.drills.clusters import ROOT, environment
from tests.perturb.sets import make_set

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1800)]

DATA = "--annotations all.txt --root in --scheme conf/scheme.yaml"
# Job: its options, and what it makes. All that is written lies in `out`, all else travels.
CHAIN = {
    "download": (
        "--root out/got --catalogue conf/sources.yaml --sources folder "
        "--scheme conf/scheme.yaml --annotations all.txt",
        "out/got/manifest.parquet",
    ),
    "annotate": ("--input folders --output out/annotated", "out/annotated/lists/train.txt"),
    "audit": (f"{DATA} --output out/audited", "out/audited/audit.html"),
    "perturb": (
        f"{DATA} --manifest conf/manifest.parquet --output out/perturbed",
        "out/perturbed/manifest.parquet",
    ),
    "reconstruct": (
        f"{DATA} --manifest conf/manifest.parquet --autoencoder conf/own.py --side 32 "
        "--output out/pairs",
        "out/pairs/manifest.parquet",
    ),
    "pack": (f"{DATA} --output out/tiles", "out/tiles/tiles.parquet"),
    "train": (
        f"{DATA} --config conf/train.yaml --output out/trained",
        "out/trained/detector/model.safetensors",
    ),
    "predict": (
        "--detector out/trained/detector --input in/images --output out/scores",
        "out/scores/scores.parquet",
    ),
    "explain": (
        "--image in/images/0001.png --detector detector --output out/explained",
        "out/explained/0001.png.html",
    ),
    "calibrate": (
        "--detector detector --annotations some.txt --root in --scheme conf/scheme.yaml "
        "--output out/calibrated",
        "out/calibrated/detector.json",
    ),
    "drift": (
        "--counts conf/counts --against conf/counts --output out/drift",
        "out/drift/drift.html",
    ),
    "export": ("--detector detector --to onnx --output out/onnx", "out/onnx/model.onnx"),
    "fuse": (
        "--detectors detector other --annotations some.txt --root in "
        "--scheme conf/scheme.yaml --fusion mean --output out/fused",
        "out/fused/detector/detector.json",
    ),
    "evaluate": (
        "--detector detector --annotations all.txt --root in --scheme conf/scheme.yaml "
        "--resamples 100 --embedding 0 --output out/evaluation",
        "out/evaluation/metrics.json",
    ),
    "report": ("--evaluations out/evaluation --output out/report", "out/report/report.html"),
    "prune": (
        "--root out/got --annotations all.txt --scheme conf/scheme.yaml --output out/pruned",
        "out/pruned/decisions.parquet",
    ),
    "tune": (
        f"{DATA} --config conf/tune.yaml --manifest conf/manifest.parquet --output out/tuned",
        "out/tuned/best.yaml",
    ),
}
OTHERS = {
    "demo": "--tiny",  # by default it writes to runs/demo
    "benchmark": "--config conf/pipeline.yaml --output out/whole",
    "pipeline": "--config conf/pipeline.yaml --output out/whole",  # the old name
    "serve": "--detector detector",  # by default it writes to runs/serve
    "weights": "--name commfor",
}
WRITES_NOTHING = {"declared", "describe"}
REFUSED = "`ray job submit` runs this on the cluster in a copy of your folder that Ray removes"


def make_folder(folder: Path) -> Path:
    """A folder of one's own, in which all paths start."""
    lines = make_set(folder / "in", 48, (260, 300)).read_text().splitlines(keepends=True)
    lines[1::4] = [line.replace("1,0,2,2", "1,0,1,1") for line in lines[1::4]]  # two generators
    (folder / "in/test.txt").unlink()
    (folder / "all.txt").write_text("".join(lines))
    (folder / "some.txt").write_text("".join(lines[:16]))
    for number, image in enumerate(sorted((folder / "in/images").iterdir())):
        at = folder / "folders" / ("synthetic/tiny" if number % 2 else "real")
        at.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, at)
    saved_detector(folder / "detector")
    saved_detector(folder / "other", seed=1)
    conf = folder / "conf"
    conf.mkdir()
    paths = [line.partition(",")[0] for line in lines]
    groups = [f"photo-{number // 4}" for number in range(len(paths))]
    table = pa.table({"id": paths, "path": paths, "group": groups})
    pq.write_table(table, conf / "manifest.parquet")
    (conf / "own.py").write_text(
        "def reconstruct(images):\n    return [one // 2 for one in images]\n"
    )
    shutil.copy(ROOT / "annotations/demo.yaml", conf / "scheme.yaml")
    shutil.copy(ROOT / "configs/perturbations/demo-train.yaml", conf / "augment.yaml")
    recipe = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    stage = {"perturbation": "conf/augment.yaml", "epochs": 1, "batch_size": 16}
    recipe |= {name: recipe[name] | stage for name in ("stage1", "stage2")}
    (conf / "train.yaml").write_text(yaml.safe_dump(recipe))
    source = {
        "about": "files of a folder",
        "at": ["in/{name}"],
        "form": "files",
        "paths": {"images/": "images/"},
    }
    catalogue = {"origins": {}, "sources": {"folder": source}}
    (conf / "sources.yaml").write_text(yaml.safe_dump(catalogue))
    space = {
        "train.stage1.learning_rate": {"log_uniform": [0.001, 0.01]},
        "train.stage1.perturbation": {"choice": ["conf/augment.yaml", "demo-train"]},
    }
    tune = {"recipe": "conf/train.yaml", "scheme": "demo", "trials": 2, "space": space}
    (conf / "tune.yaml").write_text(yaml.safe_dump(tune))
    lists = {"train": ["all.txt"], "calibration": "some.txt", "test": ["all.txt"]}
    whole = {"recipe": "conf/train.yaml", "scheme": "demo", "lists": lists}
    (conf / "pipeline.yaml").write_text(yaml.safe_dump(whole))
    traffic = Traffic("d" * 64, "c" * 16)
    for number in range(300):
        row = {"logit": number % 10 - 4.5, "verdict": "real", "format": "PNG"}
        traffic.add(row, f"2026-11-{28 + number % 20 // 10}")
    (conf / "counts").mkdir()
    (conf / "counts/traffic.json").write_text(traffic.to_json())
    return folder


class Cluster:
    """A head of two CPUs that takes jobs."""

    def __init__(self, folder: Path) -> None:
        port, dashboard, agent = free_ports(3)
        self.address = f"127.0.0.1:{port}"
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self._sockets = tempfile.mkdtemp(prefix="ray-drill-")  # paths of sockets must be short
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--num-cpus=2", f"--port={port}", f"--temp-dir={self._sockets}"),
            *(f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-agent-listen-port={agent}", "--disable-usage-stats"),
        ]
        with (folder / "head.txt").open("wb") as log:
            self._process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while not self._takes_jobs():
            assert self._process.poll() is None, (folder / "head.txt").read_text()
            assert time.monotonic() < deadline, "the head does not answer"
            time.sleep(0.5)

    def _takes_jobs(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.dashboard}/api/jobs/", timeout=20).status_code == 200
        return False

    def submit(self, folder: Path, *command: str) -> str:
        """What a command says that a folder is handed in with."""
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
        submit += ["--address", self.dashboard, "--working-dir", str(folder), "--", *command]
        said = "No available agent"
        while "No available agent" in said:  # the head is up before it takes jobs
            done = subprocess.run(
                submit,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            said = done.stdout
        return said

    def stop(self) -> None:
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([*family, psutil.Process(self._process.pid)], timeout=15)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


def line(job: str, options: str) -> str:
    return shlex.join([sys.executable, str(ROOT / "jobs" / f"{job}.py")]) + f" {options}"


@pytest.mark.parametrize("where", ["own", "cluster"])
def test_results_lie_below_the_folder_that_one_stands_in(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    folder, env = make_folder(tmp_path / "mine"), environment()
    if where == "cluster":
        env["RAY_ADDRESS"] = request.getfixturevalue("cluster").address
    for job, (options, made) in CHAIN.items():
        done = subprocess.run(
            line(job, options),
            shell=True,
            cwd=folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode in (0, 3), f"{job}: {done.stdout[-4000:]}"
        assert (folder / made).exists(), f"{job}: {done.stdout[-4000:]}"
    assert sorted(os.listdir(folder)) == [
        *("all.txt", "conf", "detector", "folders", "in", "other", "out", "some.txt")
    ]


def submitted(cluster: Cluster, folder: Path, lines: dict[str, str]) -> dict[str, tuple[int, str]]:
    """Exit code of each line, and what it said, as one job."""
    script = "".join(f'{one}\necho "@@ {job} $?"\n' for job, one in lines.items())
    (folder / "all.sh").write_text(script)
    said = cluster.submit(folder, "bash", "all.sh")
    ended = re.split(r"^@@ (\w+) (\d+)\n", said, flags=re.MULTILINE)
    assert ended[1::3] == list(lines), said[-6000:]
    return {job: (int(code), text) for text, job, code in zip(*[iter(ended)] * 3, strict=False)}


def test_a_submitted_job_refuses_to_write_where_it_would_be_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "mine")
    every = {job: options for job, (options, _) in CHAIN.items()} | OTHERS
    assert set(every) | WRITES_NOTHING == {path.stem for path in (ROOT / "jobs").glob("*.py")}
    ended = submitted(cluster, folder, {job: line(job, every[job]) for job in every})
    for job, (code, said) in ended.items():
        assert code == 2, said
        errors = [text for text in said.splitlines() if text.startswith("error:")]
        assert len(errors) == 1, said
        assert REFUSED in errors[0], job


def test_a_submitted_job_reads_what_came_along_and_knows_its_run_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder, shared = make_folder(tmp_path / "mine"), tmp_path / "shared"
    lines = {
        job: line(job, options.replace("out/", f"{shared}/")) for job, (options, _) in CHAIN.items()
    }
    for job, (code, said) in submitted(cluster, folder, lines).items():
        assert code in (0, 3), f"{job}: {said[-4000:]}"
        assert (shared / CHAIN[job][1].removeprefix("out/")).exists(), job
    (folder / "notes.txt").write_text("another state of the folder is unpacked elsewhere")
    again = {job: lines[job] for job in ("perturb", "train", "calibrate")}
    for job, (code, said) in submitted(cluster, folder, again).items():
        assert code in (0, 3), f"{job}: {said[-4000:]}"
        assert "(done before)" in said, job
