"""Every job with all that it reads and writes in a bucket: lists, images, detectors, results."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rayapp.storage.uris import open_store
from tests.doubles.clouds import ACCOUNT_KEY
from tests.doubles.s3 import SECRET_KEY
from tests.drills.clusters import ROOT, environment, raylets
from tests.drills.test_paths_drill import CHAIN, make_folder

pytestmark = [pytest.mark.drill, pytest.mark.slow, pytest.mark.timeout(1500)]

# Settings, and what they name, travel with the command or by `ray job submit`; all else may lie
# in a bucket.
_THERE = r"(?:all|some)\.txt|in|folders|detector|other|out|conf/manifest\.parquet|conf/own\.py"
READ_ONLY = {"describe": "detector", "declared": "--input in/images --output out/declared.parquet"}


def in_bucket(root: str, options: str) -> list[str]:
    """Options with each path that may lie in the bucket put there."""
    return [
        f"{root}/{word}" if re.fullmatch(rf"(?:{_THERE})(?:/.*)?", word) else word
        for word in shlex.split(options)
    ]


def test_every_job_reads_and_writes_there(tmp_path: Path, bucket: str) -> None:
    folder, root = make_folder(tmp_path / "mine"), f"{bucket}/all"
    store = open_store(root)
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix != ".yaml":
            store.put(str(file.relative_to(folder)), file.read_bytes())
    sources = yaml.safe_load((folder / "conf/sources.yaml").read_text())
    sources["sources"]["folder"]["at"] = [f"{root}/in/{{name}}"]
    (folder / "conf/sources.yaml").write_text(yaml.safe_dump(sources))
    jobs = CHAIN | {job: (options, "") for job, options in READ_ONLY.items()}
    here = folder.rename(tmp_path / "elsewhere")  # what a job would look for on disk is not there
    (folder / "conf").mkdir(parents=True)
    for file in (here / "conf").glob("*.yaml"):
        file.rename(folder / "conf" / file.name)
    with raylets(2) as cluster:
        for job, (options, made) in jobs.items():
            done = subprocess.run(
                [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *in_bucket(root, options)],
                cwd=folder,
                env=environment(RAY_ADDRESS=cluster.address),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert done.returncode in (0, 3), f"{job}: {done.stdout[-4000:]}"
            assert not made or store.stat(made) is not None, f"{job}: {done.stdout[-4000:]}"
            assert not any(secret in done.stdout for secret in (SECRET_KEY, ACCOUNT_KEY)), job
    assert store.stat("out/declared.parquet") is not None
    assert sorted(one.name for one in folder.iterdir()) == ["conf"]
