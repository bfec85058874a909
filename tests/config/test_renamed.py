"""Old names of fields: taken for a version, each said in one line, and the same run to run.json."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, ValidationError

from rayapp.config.command_line import parse_settings
from rayapp.config.errors import UserError
from rayapp.config.renamed import old_names, say_renamed
from rayapp.config.settings import JobSettings, Settings
from rayapp.config.yaml_files import named_now, parse_yaml, read_yaml
from rayapp.dataset.suites import ProtocolName
from rayapp.run import record as runs
from tests.job_settings import JOBS, fields_of, parts_of, settings_of


class Part(Settings):
    """A part."""

    renamed: ClassVar[Mapping[str, str]] = {"pace": "learning_rate"}

    learning_rate: float = Field(0.1, gt=0, description="rate")


class Job(JobSettings):
    """A job whose fields have had other names."""

    renamed: ClassVar[Mapping[str, str]] = {
        "many": "num_workers",
        "gpu": "gpus_per_worker",
        "loud": "shown",
        "files": "list_uris",
    }
    nested_jobs: ClassVar[Mapping[str, type[BaseModel]]] = {"changes": Part}

    num_workers: int | None = Field(None, ge=1, description="workers")
    gpus_per_worker: int = Field(0, ge=0, description="GPUs")
    shown: bool = Field(True, description="a switch")
    list_uris: tuple[str, ...] = Field((), description="lists")
    part: Part = Field(Part(), description="a part")
    changes: dict[str, Any] = Field({}, description="changes to another job's settings")


@pytest.fixture(autouse=True)
def _said_anew() -> None:
    say_renamed.cache_clear()


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "my.yaml").write_text(text)
        return str(tmp_path / "my.yaml")

    return write


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--many", "3"], {"num_workers": 3}),
        (["--many=3"], {"num_workers": 3}),
        (["--gpu"], {"gpus_per_worker": 1}),
        (["--no-gpu"], {"gpus_per_worker": 0}),
        (["--no-loud"], {"shown": False}),
        (["--files", "a", "b"], {"list_uris": ("a", "b")}),
        (["--part.pace", "0.5"], {"part": Part(learning_rate=0.5)}),
    ],
)
def test_an_old_option_is_the_new_one(
    old: list[str], new: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    given = parse_settings(Job, ["--output", "o", *old], "job.py")
    assert given == Job(output="o", **new)
    assert re.fullmatch(
        r"job.py: --[a-z.-]+ is now --[a-z._-]+; the old name goes in the next version\n",
        capsys.readouterr().err,
    )


def test_the_help_and_the_known_keys_are_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(Job, ["--help"], "job.py")
    shown = capsys.readouterr().out
    assert "--num-workers" in shown
    assert not re.search(r"--(many|gpu|no-gpu|loud|files)\b(?!s)", shown)


def test_old_keys_of_a_file(
    config: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config("output: o\nmany: 2\npart:\n  pace: 0.5\nchanges: {pace: 0.2, else: 1}\n")
    wanted = Job(
        output="o",
        num_workers=2,
        part=Part(learning_rate=0.5),
        changes={"learning_rate": 0.2, "else": 1},
    )
    assert parse_settings(Job, ["--config", path], "job.py") == wanted
    ends = "; the old name goes in the next version"
    assert capsys.readouterr().err.splitlines() == [
        f"{path}:2: many is now num_workers{ends}",
        f"{path}:4: pace is now learning_rate{ends}",
        f"{path}:5: pace is now learning_rate{ends}",
    ]
    # An option wins over the file under whichever names.
    assert parse_settings(Job, ["--config", path, "--many", "4"], "job.py").num_workers == 4
    assert parse_settings(Job, ["--config", path, "--num-workers", "5"], "job.py").num_workers == 5


def test_a_fault_under_an_old_name_has_its_line(config: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match=r"my\.yaml:2: num_workers: .*got 0"):
        parse_yaml(config("output: o\nmany: 0\n"), Job)
    with pytest.raises(UserError, match=r"job\.py: part\.learning_rate: .*got '-1'"):
        parse_settings(Job, ["--output", "o", "--part.pace=-1"], "job.py")


def test_both_names_at_once_are_refused(config: Callable[[str], str]) -> None:
    said = "many is the old name of num_workers: give one of them"
    with pytest.raises(UserError, match=rf"my\.yaml: {said}"):
        parse_yaml(config("output: o\nmany: 2\nnum_workers: 2\n"), Job)
    options = ["--output", "o", "--many", "2", "--num-workers", "2"]
    with pytest.raises(UserError, match=r"job\.py: --many is the old name of --num-workers: give"):
        parse_settings(Job, options, "job.py")
    with pytest.raises(UserError, match="changes: pace is the old name of learning_rate"):
        named_now(Part, {"pace": 1, "learning_rate": 1}, "changes")
    with pytest.raises(ValidationError, match=said):
        Job(output="o", many=2, num_workers=2)


def test_a_run_under_old_names_goes_on(tmp_path: Path) -> None:
    """The record as version 0.1 wrote it: `stage`, old fields, `protocol` among the inputs."""
    inputs = {"root": "/r", "perturbation": "aa", "perturbation of stage1": "bb"}
    given = {"num_workers": 2, "part": {"learning_rate": 0.5}, "changes": {"learning_rate": 1}}
    job = Job.model_validate({"output": str(tmp_path), **given})
    run = runs.start("perturb", job, inputs, output=job.output, overwrite=False)
    run.claim()
    run.finish({"ok": 1})
    record = json.loads((tmp_path / "run.json").read_text())
    settings = record.pop("settings")
    assert record["job"] == "perturb"
    old = {"stage": record.pop("job"), **record}
    old["inputs"] = {k.replace("perturbation", "protocol"): v for k, v in inputs.items()}
    old["settings"] = settings | {"part": {"pace": 0.5}, "changes": {"pace": 1}}
    old["settings"]["many"] = old["settings"].pop("num_workers")
    del old["settings"]["list_uris"]  # a field that is newer, at its default
    (tmp_path / "run.json").write_text(json.dumps(old))

    def again(**changed: object) -> runs.Run:
        other = Job.model_validate({"output": str(tmp_path), **given, **changed})
        return runs.start("perturb", other, inputs, output=job.output, overwrite=False)

    assert again().state == "done"
    with pytest.raises(UserError, match="setting num_workers was 2, now 3"):
        again(num_workers=3)
    with pytest.raises(UserError, match='setting list_uris was null, now \\["a"\\]'):
        again(list_uris=("a",))
    (tmp_path / "started.json").write_text((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").unlink()
    assert again().state == "resumed"


@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_every_old_name_leads_to_a_field_and_is_none(script: Path) -> None:
    models = [settings_of(script)]
    for _, field in fields_of(models[0], ""):
        parts = (part for part in parts_of(field.annotation) if isinstance(part, type))
        models += [part for part in parts if issubclass(part, BaseModel)]
    for model in models:
        for old, new in old_names(model).items():
            assert new in model.model_fields
            assert old not in model.model_fields


EARLIER = {
    "predict": {"protocol": "perturbation", "gpus": "gpus_per_worker", "workers": "num_workers"},
    "perturb": {"protocol": "perturbation", "plan": "draws"},
    "train": {"gpu": "gpus_per_worker"},
    "evaluate": {"gpus": "gpus_per_worker", "workers": "num_workers"},
    "calibrate": {"gpus": "gpus_per_worker", "workers": "num_workers"},
    "download": {"workers": "num_workers"},
    "tune": {"concurrent": "num_trials_at_once"},
    "benchmark": {"plan": "estimate"},
}


def test_the_names_of_version_0_1_are_taken() -> None:
    by_job = {path.stem: old_names(settings_of(path)) for path in JOBS}
    for job, names in EARLIER.items():
        assert names.items() <= by_job[job].items(), job


def test_our_own_files_use_no_old_name() -> None:
    root = Path(__file__).parents[2]
    by_job = {path.stem: settings_of(path) for path in JOBS}
    old = {name for model in by_job.values() for name in old_names(model)} | {"protocol"}
    old -= {"root"}  # of download alone; other jobs have one
    for path in (root / "configs").glob("*.yaml"):
        _, lines = read_yaml(path)
        used = {at for at in lines if at[-1] in old and at[0] not in ("reckoning", "evaluate")}
        assert not used, path.name


@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_one_word_for_one_thing(script: Path) -> None:
    """Machines are counted alike in every job, and a protocol is `clean` or `legacy`."""
    for at, field in fields_of(settings_of(script), ""):
        name = at.rpartition(".")[2]
        if at.startswith(".reckoning"):  # the machines of an estimate, not of a worker
            continue
        assert name not in {"workers", "gpus", "gpu", "concurrent", "plan", "stage"}, at
        if name == "protocol":
            assert field.annotation == ProtocolName, at
