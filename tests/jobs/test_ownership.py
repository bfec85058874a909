"""Whose a pipeline's output is, said before a step begins."""

from pathlib import Path
from typing import Any

import pytest

from rayapp.benchmark.settings import BenchmarkSettings
from rayapp.config.command_line import parse_settings
from rayapp.config.errors import UserError
from rayapp.demo.settings import DemoSettings
from rayapp.jobs.benchmark import run_benchmark
from rayapp.jobs.demo import run_demo
from rayapp.run import fingerprint
from rayapp.run.fingerprint import read_record, write_record
from rayapp.run.ownership import PIPELINE_FILE, own_output
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3
from tests.jobs.test_benchmark import settings as benchmark_settings


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out")
    server: S3 = request.getfixturevalue("s3")
    return f"s3://{server.bucket}/{tmp_path.name}"


def run(output: str, job: str = "demo", writes: str = "train/run.json", **changes: Any) -> None:
    settings = DemoSettings(output=output, **changes)
    with own_output(job, settings, beside={"images"}):
        if not writes:
            raise UserError("refused by a step")
        open_store(output).put(writes, b"x")


def keys(output: str) -> set[str]:
    return {stat.key for stat in open_store(output).list()}


def test_tiny_lies_apart_unless_it_is_told_where() -> None:
    def output(*arguments: str) -> str:
        return parse_settings(DemoSettings, arguments, "demo.py").output

    assert Path(output()).parts[-2:] == ("runs", "demo")
    assert Path(output("--tiny")).parts[-2:] == ("runs", "demo-tiny")
    assert Path(output("--no-tiny")).parts[-2:] == ("runs", "demo")
    assert Path(output("--tiny", "--output", "/x")) == Path("/x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tiny": True}, "setting tiny was false, now true"),
        ({"seed": 1, "loss": "ce"}, 'setting loss was "selfcon", now "ce"; setting seed was 42'),
        ({"photos": "/mine"}, 'setting photos was null, now "/mine"'),
        ({"job": "pipeline"}, "a demo, now pipeline"),
    ],
)
def test_other_settings_are_refused_by_name_unless_overwrite(
    output: str, change: dict[str, Any], said: str
) -> None:
    run(output)
    before = keys(output)
    with pytest.raises(UserError) as caught:
        run(output, writes="report/run.json", **change)
    assert f"holds the output of another run ({said}" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert keys(output) == before
    run(output, **change, overwrite=True)
    assert keys(output) == before  # what follows from the change is the stages' to say
    with pytest.raises(UserError, match="another run"):
        run(output)


def test_the_same_settings_go_on_wherever_and_with_newer_code(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(output)
    run(output, writes="report/run.json", cpus=1, wait_s=3, verbose=True)
    monkeypatch.setattr(fingerprint, "__version__", "9.9")
    run(output)
    assert read_record(open_store(output), PIPELINE_FILE)["code"] == "9.9"  # type: ignore[index]


def test_a_field_that_an_older_version_had_not_is_no_other_setting(output: str) -> None:
    run(output)
    store = open_store(output)
    record = read_record(store, PIPELINE_FILE)
    assert record is not None
    del record["settings"]["loss"]
    write_record(store, PIPELINE_FILE, record)
    run(output)


def test_what_a_stage_refuses_before_it_wrote_anything_claims_nothing(output: str) -> None:
    with pytest.raises(UserError, match="refused by a step"):
        run(output, writes="", seed=1)
    assert keys(output) == set()
    run(output)


def test_results_of_a_single_job_and_foreign_files_are_left_alone(output: str) -> None:
    store = open_store(output)
    store.put("detector/model.safetensors", b"trained for hours")
    with pytest.raises(UserError, match="is not empty and holds no demo of ours"):
        run(output)
    assert keys(output) == {"detector/model.safetensors"}
    run(output, overwrite=True)


def test_images_may_be_there_first(output: str) -> None:
    open_store(output).put("images/a.png", b"x")
    run(output)


def test_demo_and_pipeline_ask_before_their_first_step(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    run(output)
    before = keys(output)
    with pytest.raises(UserError, match="setting seed was 42, now 7"):
        run_demo(DemoSettings(output=output, seed=7))
    asked = benchmark_settings(tmp_path)
    assert isinstance(asked, BenchmarkSettings)
    with pytest.raises(UserError, match="a demo, now benchmark"):
        run_benchmark(asked)
    assert keys(output) == before
