"""Prune, killed at random moments: the same command finishes, and nothing else is touched."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.drill


def make(folder, files):
    """A tree of which every third file is annotated, a link out of it, and what it leads to."""
    lines = []
    for number in range(files // 100):
        inside = folder / "root" / f"{number % 7}" / f"{number}"
        inside.mkdir(parents=True)
        for at in range(100):
            (inside / f"{at}.png").write_bytes(b"x" * (at % 5))
            if at % 3 == 0:
                lines.append(f"{number % 7}/{number}/{at}.png,0,0,4,8\n")
    (folder / "outside").mkdir()
    (folder / "outside/kept.png").write_text("kept")
    (folder / "root/out").symlink_to(folder / "outside")
    (folder / "list.txt").write_text("".join(lines))
    return sorted(line.split(",")[0] for line in lines)


def command(folder, *more):
    return [
        *(sys.executable, str(ROOT / "jobs/prune.py"), "--root", str(folder / "root")),
        *("--annotations", str(folder / "list.txt"), "--output", str(folder / "out")),
        *("--cpus", "2", "--apply", "--yes", *more),
    ]


def environment():
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


def there(folder):
    base = folder / "root"
    return sorted(
        os.path.relpath(os.path.join(at, name), base)
        for at, folders, files in os.walk(base)
        for name in files + [one for one in folders if os.path.islink(os.path.join(at, one))]
    )


def killed_and_resumed(folder, wanted, after_s, *more):
    """Kill so long after the removal began; then the same command. How many were left then."""
    with subprocess.Popen(
        command(folder, *more),
        env=environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not (folder / "out/applying.parquet").exists():
            assert time.monotonic() < deadline, "no removal began"
            time.sleep(0.01)
        time.sleep(after_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    left = there(folder)
    assert set(wanted) <= set(left)
    done = subprocess.run(command(folder, *more), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert there(folder) == wanted
    assert (folder / "outside/kept.png").read_text() == "kept"
    return len(left)


@pytest.mark.first
def test_killed_while_it_removes_it_finishes(tmp_path):
    wanted = make(tmp_path, 3000)
    killed_and_resumed(tmp_path, wanted, 0.0)
    assert not (tmp_path / "out/applying.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_nothing_is_lost(tmp_path, seed):
    wanted = make(tmp_path, 30_000)
    total = len(there(tmp_path))
    more = ("--trash", str(tmp_path / "trash")) if seed % 2 else ()
    killed_and_resumed(tmp_path, wanted, random.Random(seed).uniform(0, 6), *more)
    if more:
        moved = sum(len(files) for _, _, files in os.walk(tmp_path / "trash"))
        assert moved == total - len(wanted) - 1  # all but the link, which is no file of os.walk


def test_on_s3_the_same_tree_becomes_the_same(tmp_path, s3):
    from rayapp.storage.uris import open_store

    wanted = make(tmp_path, 300)
    uri = f"s3://{s3.bucket}/drill/{tmp_path.name}"
    store = open_store(uri)
    for path in there(tmp_path):
        if path != "out":
            store.put(path, (tmp_path / "root" / path).read_bytes())
    here = subprocess.run(command(tmp_path), env=environment(), capture_output=True, text=True)
    words = command(tmp_path, "--trash", f"{uri}-trash")
    words[words.index("--root") + 1] = uri
    words[words.index("--output") + 1] = str(tmp_path / "out-s3")
    done = subprocess.run(words, env=environment() | s3.environment, capture_output=True, text=True)
    assert (here.returncode, done.returncode) == (0, 0), done.stderr
    assert there(tmp_path) == wanted
    assert sorted(stat.key for stat in store.list()) == wanted
    assert len(list(open_store(f"{uri}-trash").list())) == 300 - len(wanted)
