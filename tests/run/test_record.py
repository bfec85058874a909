"""run.json: new, resumed, done, differs, overwritten; and what must not be touched."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from rayapp.run import fingerprint
from rayapp.run import record as runs
from rayapp.run.commands import command
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3


class Job(JobSettings):
    """A stage."""

    size: int = Field(256, description="pixels")
    names: tuple[str, ...] = Field(("a",), description="names")


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out")
    server: S3 = request.getfixturevalue("s3")
    return f"s3://{server.bucket}/{tmp_path.name}"


def opened(output: str, *, inputs: dict[str, str] | None = None, **settings: object) -> runs.Run:
    job = Job.model_validate({"output": output, **settings})
    inputs = {"list": "aa", "detector": "dd"} if inputs is None else inputs
    return runs.start("perturb", job, inputs, output=output, overwrite=job.overwrite)


def start(output: str, *, inputs: dict[str, str] | None = None, **settings: object) -> runs.Run:
    run = opened(output, inputs=inputs, **settings)
    run.claim()
    return run


def finished(output: str, **settings: object) -> runs.Run:
    run = start(output, **settings)
    run.store.put("images/a.png", b"x")
    run.finish({"ok": 2, "failed": 1}, {"auc": 0.5})
    return run


def keys(output: str) -> set[str]:
    return {found.key for found in open_store(output).list()}


def test_new_then_done(output: str) -> None:
    run = start(output)
    assert (run.state, run.counts, run.results) == ("new", {}, {})
    assert keys(output) == {"started.json"}
    run.finish({"ok": 2, "failed": 1}, {"auc": 0.5})
    assert keys(output) == {"run.json"}
    again = start(output)
    assert again.state == "done"
    assert again.counts == run.counts == {"ok": 2, "failed": 1}
    assert again.results == {"auc": 0.5}
    assert keys(output) == {"run.json"}


def test_what_is_recorded(output: str) -> None:
    finished(output)
    record = json.loads(open_store(output).get("run.json"))
    assert record["job"] == "perturb"
    assert record["settings"] == {"size": 256, "names": ["a"]}
    assert record["inputs"] == {"detector": "dd", "list": "aa"}
    assert record["code"] == record["versions"]["rayapp"]
    assert {"python", "ray", "torch", "numpy"} <= record["versions"].keys()
    assert record["seconds"] >= 0
    assert record["finished"].endswith("Z")


def test_what_killed_puts_left_is_swept_up_at_the_end_and_nothing_else(tmp_path: Path) -> None:
    start(str(tmp_path))
    left, at_work, foreign = (
        tmp_path / "images" / name for name in (".7-ab.part", ".8-cd.part", "own.part")
    )
    left.parent.mkdir()
    for path in (left, at_work, foreign):
        path.write_bytes(b"half")
    for path in (left, foreign):
        os.utime(path, (1, 1))
    run = start(str(tmp_path))
    os.utime(at_work, (run._started + 5,) * 2)
    run.finish({"ok": 2})
    assert [path.exists() for path in (left, at_work, foreign)] == [False, True, True]


def test_killed_then_resumed(output: str) -> None:
    start(output).store.put("parts/one.parquet", b"x")
    assert start(output).state == "resumed"
    assert "parts/one.parquet" in keys(output)


def test_where_the_work_runs_makes_no_difference(output: str) -> None:
    finished(output)
    assert start(output, cpus=1, wait_s=3, verbose=True, overwrite=True).state == "done"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 128}, "setting size was 256, now 128"),
        ({"names": ["b", "ü"]}, 'setting names was ["a"], now ["b", "ü"]'),
        ({"inputs": {"list": "bb", "detector": "dd"}}, "its input list has changed since"),
        ({"inputs": {"list": "aa"}}, "its input detector is not read any more"),
        ({"size": 1, "names": []}, "setting names was"),
    ],
)
@pytest.mark.parametrize("state", ["done", "started"])
def test_other_settings_or_inputs_end_and_are_named(
    tmp_path: Path, change: dict[str, object], said: str, state: str
) -> None:
    output = str(tmp_path)
    if state == "done":
        finished(output)
    else:
        start(output)
    before = keys(output)
    with pytest.raises(UserError) as caught:
        start(output, **change)
    assert str(caught.value).startswith(f"{tmp_path}: holds the output of another run (")
    assert said in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert ("it did not finish" in str(caught.value)) == (state == "started")
    assert "\n" not in str(caught.value)
    assert keys(output) == before


def test_long_values_are_shortened(tmp_path: Path) -> None:
    finished(str(tmp_path))
    with pytest.raises(UserError) as caught:
        start(str(tmp_path), names=["n" * 5000])
    assert len(str(caught.value)) < 400


def test_other_code_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(str(tmp_path))
    monkeypatch.setattr(fingerprint, "__version__", "9.9")
    with pytest.raises(UserError, match=r"code version was .*, now 9\.9"):
        start(str(tmp_path))


def test_another_job_ends(tmp_path: Path) -> None:
    finished(str(tmp_path))
    job = Job(output=str(tmp_path))
    with pytest.raises(UserError, match="job perturb, now train"):
        runs.start("train", job, {}, output=str(tmp_path), overwrite=False)


def test_overwrite_empties_another_run(output: str) -> None:
    finished(output)
    run = start(output, size=1, overwrite=True)
    assert run.state == "new"
    assert keys(output) == {"started.json"}
    run.finish({})
    assert start(output, size=1).state == "done"


def test_overwrite_cut_off_leaves_no_run_that_looks_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path)
    finished(output)
    delete = LocalStore.delete
    calls = []

    def cut_off(store: LocalStore, keys: Iterable[str]) -> None:
        calls.append(keys)
        if len(calls) == 2:
            raise KeyboardInterrupt
        delete(store, keys)

    monkeypatch.setattr(LocalStore, "delete", cut_off)
    with pytest.raises(KeyboardInterrupt):
        start(output, size=1, overwrite=True)
    monkeypatch.undo()
    assert start(output).state == "resumed"  # the old command does not take it for done
    with pytest.raises(UserError, match="another run"):
        start(output, size=1)
    assert start(output, size=1, overwrite=True).state == "new"
    assert keys(output) == {"started.json"}


def test_what_is_refused_before_its_work_begins_claims_nothing(output: str) -> None:
    assert opened(output).state == "new"
    assert keys(output) == set()
    assert opened(output, size=1).state == "new"


def test_refused_with_overwrite_it_removes_nothing(output: str) -> None:
    finished(output)
    before = keys(output)
    assert opened(output, size=1, overwrite=True).state == "new"
    assert keys(output) == before
    assert opened(output).state == "done"


def ends_early(run: runs.Run, *written: str) -> None:
    with run.claimed():
        assert "started.json" in keys(run.store.root)
        for key in written:
            run.store.put(key, b"x")
        raise KeyboardInterrupt


def test_work_that_ends_before_it_wrote_anything_gives_the_output_back(output: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        ends_early(opened(output))
    assert keys(output) == set()
    assert opened(output, size=1).state == "new"


def test_work_that_wrote_something_keeps_the_output(output: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        ends_early(opened(output), "parts/one.parquet")
    assert opened(output).state == "resumed"
    with pytest.raises(UserError, match="size was 256, now 1; it did not finish"):
        opened(output, size=1)


def test_of_two_that_begin_at_once_the_second_is_refused(output: str) -> None:
    first, second = opened(output), opened(output, size=1)
    first.claim()
    with pytest.raises(UserError, match="size was 256, now 1; it did not finish"):
        second.claim()
    opened(output).claim()  # the same again goes on with it
    assert keys(output) == {"started.json"}


def test_a_run_that_was_killed_before_it_wrote_anything_blocks_none(output: str) -> None:
    opened(output).claim()
    store = open_store(output)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    record = json.loads(store.get("started.json"))
    process, _, machine = record["writer"].partition("-")
    assert process == str(os.getpid())  # at work: see above
    store.put("started.json", json.dumps(record | {"writer": f"{gone.pid}-{machine}"}).encode())
    assert opened(output).state == "resumed"
    store.put("started.json", json.dumps(record | {"writer": f"{gone.pid}-{machine}"}).encode())
    other = opened(output, size=1)
    assert other.state == "new"
    other.claim()
    assert json.loads(store.get("started.json"))["settings"]["size"] == 1
    store.put("started.json", json.dumps(record | {"writer": f"{gone.pid}-elsewhere"}).encode())
    with pytest.raises(UserError, match="another run"):
        opened(output, size=1)


def test_nothing_is_finished_that_was_not_claimed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="claim"):
        opened(str(tmp_path)).finish({})


def test_overwrite_takes_up_its_own_run(output: str) -> None:
    start(output, overwrite=True).store.put("parts/one", b"x")
    assert start(output, overwrite=True).state == "resumed"
    assert "parts/one" in keys(output)


def test_a_foreign_folder_is_refused_and_never_emptied(output: str) -> None:
    store = open_store(output)
    store.put("thesis.tex", b"years of work")
    with pytest.raises(UserError, match=r"is not empty and holds no run of ours"):
        start(output)
    assert keys(output) == {"thesis.tex"}
    run = start(output, overwrite=True)
    assert run.state == "new"
    run.finish({})
    assert store.get("thesis.tex") == b"years of work"


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', '{"some": "other tool"}'])
def test_a_foreign_run_json_is_no_run_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError):
        start(str(tmp_path))
    assert start(str(tmp_path), overwrite=True).state == "new"
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("below", ["file/out", "file", "/proc/out", "n" * 300], ids=len)
def test_output_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    output = str(tmp_path / below)
    with pytest.raises(UserError, match=r"can't be (written|read)") as caught:
        start(output)
    assert str(caught.value).startswith(output)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "x"


def test_missing_bucket(s3: S3) -> None:
    with pytest.raises(UserError, match="there is no such bucket"):
        start("s3://there-is-none/out")


def test_the_end_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(str(tmp_path))
    run.print_summary({"images": "images"}, then="python jobs/predict.py")
    out = re.sub(r"in [\d.]+ s", "in TIME", capsys.readouterr().out)
    assert out == (
        f"\nperturb: done in TIME\n  ok      2\n  failed  1\n  images  {tmp_path}/images\n"
        "next: python jobs/predict.py\n"
    )
    start(str(tmp_path)).print_summary({})
    assert "(done before)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert runs.duration(seconds) == text


def test_a_command_to_copy_survives_the_shell() -> None:
    text = command("train", head_annotations=["a b.txt", "$c"], root="s3://b/it's")
    assert shlex.split(text)[-5:] == [
        *("--head-annotations", "a b.txt", "$c"),
        *("--root", "s3://b/it's"),
    ]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with an environment in it that this process seems to run in."""
    binaries = tmp_path / ".venv/bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(binaries / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return binaries


def put_command(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "imaginet").write_text("#!/bin/sh\n")
    (folder / "imaginet").chmod(0o755)


def test_a_command_starts_as_this_shell_can_start_it(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        return command("train", root=str(tmp_path / "images"), output="DIR")

    script = Path(runs.__file__).parents[2] / "jobs/train.py"
    assert told() == f".venv/bin/python {script} --root images --output DIR"
    put_command(environment)
    assert told() == ".venv/bin/imaginet train --root images --output DIR"
    put_command(tmp_path / "other")  # somebody else's comes first
    monkeypatch.setenv("PATH", f"{tmp_path}/other:{environment}")
    assert told() == ".venv/bin/imaginet train --root images --output DIR"
    monkeypatch.setenv("PATH", f"{environment}:{tmp_path}/other")
    assert told() == "imaginet train --root images --output DIR"
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path / "other")
    assert told() == f"{environment}/imaginet train --root {tmp_path}/images --output DIR"


def test_what_a_submitted_job_proposes_is_for_another_shell(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert command("train", root="s3://b/x") == "imaginet train --root s3://b/x"


def test_what_is_said_to_be_made_must_be_there(output: str) -> None:
    run = start(output)
    run.store.put("images/a.png", b"x")
    with pytest.raises(JobFailed, match=r"metrics\.csv: is not there, though the work is through"):
        run.finish({}, made=("images", "metrics.csv"))
    assert start(output).state == "resumed"
    run.finish({}, made=("images", "images/a.png"))
    assert start(output).state == "done"


def test_what_was_removed_since_is_made_again(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(output)
    run.store.put("detector/a", b"x")
    run.store.put("beside", b"x")
    run.finish({}, made=("detector",))
    run.store.delete(["detector/a"])
    assert start(output).state == "resumed"
    assert (
        capsys.readouterr().err == f"{run.store.uri('detector')} is gone: perturb is done again\n"
    )
    assert start(output).state == "resumed"  # and no longer said to be done
    assert keys(output) == {"started.json", "beside"}


def test_no_result_is_named_that_is_not_there(output: str) -> None:
    finished(output)
    run = start(output)
    assert run.state == "done"
    with pytest.raises(JobFailed, match=r"gallery\.html: is not there.*--overwrite"):
        run.print_summary({"images": "images", "to look at": "gallery.html"})


def test_a_submitted_job_knows_its_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, states = str(tmp_path / "out"), []
    for package in ("_ray_pkg_1", "_ray_pkg_2"):
        folder = tmp_path / "runtime_resources/working_dir_files" / package
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        run = start(output, inputs={f"{folder}/a.txt": "aa"}, names=[f"{folder}/a.txt"])
        states.append(run.state)
        if run.state == "new":
            run.finish({})
    assert states == ["new", "done"]


def test_what_is_done_again_is_not_done_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(str(tmp_path))
    run = start(str(tmp_path))
    run.finish({"ok": 3})
    run.print_summary({})
    assert "(done before)" not in capsys.readouterr().out


def test_digest_knows_where_a_part_ends() -> None:
    assert runs.digest(b"ab", b"c") != runs.digest(b"a", b"bc") != runs.digest(b"abc")
    assert runs.digest(b"ab", b"c") == runs.digest(b"ab", b"c")


SLOW_TO_BEGIN = """
import sys, time
time.sleep(1.5)  # as torch and Ray take while they are imported
from rayapp.config import clock
from rayapp.run import record
from rayapp.config.settings import JobSettings
from rayapp.config.command_line import run_job

def job(settings):
    for stage in ("first", "second"):
        begun = time.monotonic()
        output = f"{settings.output}/{stage}"
        run = record.start(stage, settings, {}, output=output, overwrite=False)
        if run.state != "done":
            run.claim()
            run.finish({})
        run.print_summary({})
        print(f"{stage} took {time.monotonic() - begun} s", file=sys.stderr)
        clock.count_anew()

run_job(JobSettings, job)
"""


def test_the_time_told_is_what_the_person_waited(tmp_path: Path) -> None:
    """From the command's start, what is imported included; of several stages each its own."""
    (tmp_path / "job.py").write_text(SLOW_TO_BEGIN)
    command = [sys.executable, str(tmp_path / "job.py"), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def done() -> tuple[list[str], str, float]:
        """What is told of each stage, what the job measured itself, and what was waited for it."""
        before = time.monotonic()
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        return ended.stdout.split("\n\n"), ended.stderr, time.monotonic() - before

    def record(stage: str) -> dict[str, Any]:
        return dict(json.loads((tmp_path / f"out/{stage}/run.json").read_text()))

    # Whatever the load, a stage's seconds lie between what surely passed and what was measured.
    told, measured, waited = done()
    first = re.search(r"first: done in (\d+)", told[0])
    second = re.search(r"second: done in ([\d.]+)", told[1])
    took = re.search(r"second took ([\d.]+)", measured)
    assert first
    assert second
    assert took
    assert 1.5 <= record("first")["seconds"] <= waited
    assert 1.5 - 0.5 <= float(first[1]) <= waited + 0.5  # whole seconds
    # Had the second one counted from the start too, it would say 1.5 s more than it took.
    assert record("second")["seconds"] <= float(took[1]) + 0.01
    assert float(second[1]) <= float(took[1]) + 0.5
    again, _, _ = done()
    for stage, text in zip(("first", "second"), again, strict=True):
        seconds = record(stage)["seconds"]
        spent = runs.duration(seconds) if seconds >= 1 else f"{seconds:.1f} s"
        day, clock = record(stage)["finished"].rstrip("Z").split("T")
        assert text.strip() == f"{stage}: done in {spent}, {day} {clock} UTC (done before)"
