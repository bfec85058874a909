"""run.json: new, resumed, done, differs, overwritten; and what must not be touched."""

import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import Field

from rayapp.config.errors import UserError
from rayapp.config.settings import JobSettings
from rayapp.run import record as runs
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


def start(output: str, *, inputs: dict[str, str] | None = None, **settings: object) -> runs.Run:
    job = Job.model_validate({"output": output, **settings})
    inputs = {"list": "aa", "detector": "dd"} if inputs is None else inputs
    return runs.start("perturb", job, inputs, output=output, overwrite=job.overwrite)


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
    assert record["stage"] == "perturb"
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
        ({"inputs": {"list": "bb", "detector": "dd"}}, 'input list was "aa", now "bb"'),
        ({"inputs": {"list": "aa"}}, 'input detector was "dd", now null'),
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
    monkeypatch.setattr(runs, "__version__", "9.9")
    with pytest.raises(UserError, match=r"code version was .*, now 9\.9"):
        start(str(tmp_path))


def test_other_stage_ends(tmp_path: Path) -> None:
    finished(str(tmp_path))
    job = Job(output=str(tmp_path))
    with pytest.raises(UserError, match="stage perturb, now train"):
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
    assert capsys.readouterr().out == (
        f"\nperturb: done in 0.0 s\n  ok      2\n  failed  1\n  images  {tmp_path}/images\n"
        "next: python jobs/predict.py\n"
    )
    start(str(tmp_path)).print_summary({})
    assert "(done before)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"),
     (7800, "2 h 10 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert runs.duration(seconds) == text


def test_a_command_to_copy_survives_the_shell() -> None:
    text = runs.command("train", head_annotations=["a b.txt", "$c"], root="s3://b/it's")
    assert shlex.split(text) == [
        *("python", "jobs/train.py", "--head-annotations", "a b.txt", "$c"),
        *("--root", "s3://b/it's"),
    ]


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
