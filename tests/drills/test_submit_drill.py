"""Every job as `ray submit` starts it: a file alone in an empty home, the package by wheel."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from rayapp.dataset.labels import load_scheme
from tests.detectors import saved_detector
from tests.drills.clusters import ROOT
from tests.perturb.sets import make_set

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1500)]

LABELS = len(load_scheme("demo").columns)


class Home:
    """An environment with the wheel, a cluster of one node that it starts, and an empty home."""

    def __init__(self, folder: Path) -> None:
        self.home, self.environment = folder / "home", folder / "env"
        self.home.mkdir()
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", self.environment], check=True
        )
        self.python = self.environment / "bin/python"
        site = next(self.environment.glob("lib/python*/site-packages"))
        # The packages that the wheel needs are those of this environment; a path alone does not
        # bring what is installed there in place, such as this very package.
        (site / "needed.pth").write_text(sysconfig.get_paths()["purelib"])
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--no-deps"]
        install = [*pip, "--no-index", "--quiet", str(wheel)]
        subprocess.run(install, check=True, capture_output=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._sockets = tempfile.TemporaryDirectory(prefix="ray-drill-", ignore_cleanup_errors=True)
        start = f"-m ray.scripts.scripts start --head --block --num-cpus=2 --port={self.port} "
        start += f"--temp-dir={self._sockets.name} --include-dashboard=false --disable-usage-stats"
        with (folder / "head.txt").open("wb") as log:
            self._head = subprocess.Popen(
                [str(self.python), *start.split()],
                env=self._env(),
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        self._log = folder / "head.txt"

    def _env(self, **more: str) -> dict[str, str]:
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "RAY_raylet_start_wait_time_s")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.home),
            "RAY_AUTH_MODE": "disabled",
            **more,
        }

    def run(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A shell line in the home."""
        command = command.replace("python ", f"{self.python} ", 1)
        return subprocess.run(
            ["bash", "-c", command],
            env=self._env(**env),
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
        )

    def submit(self, job: str, *arguments: str) -> str:
        """What a job says; its file is copied, its arguments are joined as they are."""
        (self.home / f"{job}.py").write_bytes((ROOT / "jobs" / f"{job}.py").read_bytes())
        done = self.run(
            " ".join(["python", f"~/{job}.py", *arguments]), RAY_ADDRESS=f"127.0.0.1:{self.port}"
        )
        (self.home / f"{job}.py").unlink()
        assert done.returncode in (0, 3), f"{job}: {done.stdout[-3000:]}"
        assert "Traceback" not in done.stdout
        return done.stdout

    def stop(self) -> None:
        family = psutil.Process(self._head.pid).children(recursive=True)
        self._head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([*family, psutil.Process(self._head.pid)], timeout=15)
        for one in alive:
            one.kill()
        self._head.wait()
        self._sockets.cleanup()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("submit"))
    yield home
    home.stop()


@pytest.fixture(scope="module")
def lists(home: Home) -> str:
    """A list of 64 images and the settings of a tiny training, as files that travel."""
    make_set(home.home / "in", 64, (260, 300))
    (home.home / "in/test.txt").rename(home.home / "all.txt")
    saved_detector(home.home / "detector")
    stage = {"epochs": 1, "batch_size": 16}
    source = {
        "about": "files of a folder",
        "at": [f"{home.home}/in/{{name}}"],
        "form": "files",
        "paths": {"images/": "images/"},
    }
    catalogue = {"origins": {}, "sources": {"folder": source}}
    (home.home / "sources.yaml").write_text(yaml.safe_dump(catalogue))
    every = str(home.home / "all.txt")
    lines = Path(every).read_text().splitlines(keepends=True)
    (home.home / "calibration.txt").write_text("".join(lines[:16]))
    (home.home / "test.txt").write_text("".join(lines[16:]))
    lists = {"train": [every], "calibration": "calibration.txt", "test": ["test.txt"]}
    pipeline = {
        "scheme": "demo",
        "lists": lists,
        "recipe": "demo",
        "output": "whole",
        "root": str(home.home / "in"),
        "train": {"stage1": stage, "stage2": stage},
        "calibrate": {"guard": "path"},  # pictures of noise look alike
        "evaluate": {"resamples": 100},
    }
    (home.home / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    return every


RUNS = {
    "download": "--root got --catalogue sources.yaml --sources folder --scheme demo "
    "--annotations all.txt",
    "perturb": "--annotations all.txt --root in --scheme demo --perturbation imaginet-test "
    "--output perturbed",
    "pack": "--annotations all.txt --root in --scheme demo --output tiles",
    "train": "--config demo --annotations all.txt --root in --scheme demo --output trained "
    "--stage1.epochs 1 --stage2.epochs 1 --stage1.batch-size 16 --stage2.batch-size 16",
    "predict": "--detector detector --input all.txt --root in --scheme demo --output scores",
    "calibrate": "--detector detector --scores scores --annotations all.txt --scheme demo "
    "--output calibrated",
    "evaluate": "--detector detector --scores scores --annotations all.txt --scheme demo "
    "--resamples 100 --output evaluation",
    "prune": "--root in --annotations all.txt --scheme demo --output pruned",
    "audit": "--root in --annotations all.txt --scheme demo --output audited",
    "report": "--evaluations evaluation --output report",
}


@pytest.mark.parametrize("job", RUNS)
def test_a_job_runs_alone_in_an_empty_home(home: Home, lists: str, job: str) -> None:
    home.submit(job, *RUNS[job].split())
    made = RUNS[job].split("--output ")[-1].split()[0] if "--output" in RUNS[job] else "got"
    record = json.loads((home.home / made / "run.json").read_text())
    assert record["job"]


CHAINS = [
    ("demo", "--tiny", "runs/demo-tiny/detector/model.safetensors"),
    ("benchmark", "--config pipeline.yaml", "whole/train/detector/model.safetensors"),
]


@pytest.mark.parametrize(("job", "options", "made"), CHAINS)
@pytest.mark.slow
def test_a_chain_of_jobs_runs_alone_too(
    home: Home, lists: str, job: str, options: str, made: str
) -> None:
    home.submit(job, *options.split())
    assert (home.home / made).exists()


def test_the_command_of_the_wheel_runs_the_jobs_that_it_carries(home: Home) -> None:
    command = home.environment / "bin/imaginet"
    listed = home.run(str(command)).stdout
    assert all(f"\n  {path.stem} " in listed for path in (ROOT / "jobs").glob("*.py")), listed
    made = home.run(f"{command} report --output by-the-command")
    assert made.returncode == 0, made.stdout
    assert (home.home / "by-the-command/report.html").exists()


@pytest.mark.parametrize("job", sorted({p.stem for p in (ROOT / "jobs").glob("*.py")} - {*RUNS}))
def test_every_other_job_says_what_it_takes(home: Home, job: str) -> None:
    assert "--config FILE" in home.submit(job, "--help")


def test_what_the_wheel_carries_is_found_by_name_from_any_folder(home: Home) -> None:
    code = (
        "import rayapp, pathlib; from rayapp.config.packaged import resource, shipped_names; "
        "print(rayapp.__file__); "
        "[print(resource(f, n)) for f in "
        "('annotations', 'configs', 'configs/perturbations', 'configs/suites') "
        "for n in shipped_names(f)]"
    )
    done = home.run(f'python -c "{code}"')
    assert done.returncode == 0, done.stdout
    found = [Path(line) for line in done.stdout.split()]
    assert all(home.environment in path.parents for path in found), "not from the wheel"
    names = {path.name for path in found}
    for folder in ("annotations", "configs", "configs/perturbations", "configs/suites"):
        assert {path.name for path in (ROOT / folder).glob("*.yaml")} <= names, folder
