"""Paths in settings: absolute from the start, in every field of every job that names one."""

import os
import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from rayapp.benchmark.settings import ListUri
from rayapp.config.command_line import parse_settings
from rayapp.config.errors import UserError
from rayapp.config.paths import OutputUri, Packaged, Uri, nearby, portable
from rayapp.config.settings import JobSettings
from rayapp.demo.settings import DemoSettings
from rayapp.weights.settings import WeightsSettings
from tests.job_settings import JOBS, fields_of, parts_of, settings_of

PACKAGE = "session_2026/runtime_resources/working_dir_files/_ray_pkg_0f3a"


class Job(JobSettings):
    """A job with a path of each kind."""

    lists: tuple[Uri, ...] = ()
    root: Uri | None = None
    scheme: Packaged = "imaginet"
    trash: OutputUri | None = None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; the home is beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "here"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of what `ray job submit --working-dir` started."""
    folder = tmp_path / PACKAGE
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


# --- what becomes of a path -----------------------------------------------------------------------


def test_a_path_starts_from_where_the_user_stands(here: Path) -> None:
    job = Job(output="runs/../out/", lists=("a.txt", "~/b.txt", "s3://bucket/c.txt"), root=".")
    assert job.output == f"{here}/out"
    assert job.lists == (f"{here}/a.txt", f"{here.parent}/home/b.txt", "s3://bucket/c.txt")
    assert job.root == str(here)
    assert Job(output="/x", root="file:///a%20b").root == "/a b"


@pytest.mark.parametrize(
    "uri",
    [
        "az://images/set?sv=2024-01-01&sr=c&sig=abc%3D",
        "gs://bucket/set?X-Goog-Algorithm=a&X-Goog-Signature=abc",
        "s3://bucket/set?X-Amz-Signature=abc",
    ],
)
def test_a_signed_uri_is_refused_and_not_said(uri: str) -> None:
    for arguments in (["--output", uri], ["--output", "/x", "--root", uri]):
        with pytest.raises(UserError, match="holds a signature") as told:
            parse_settings(Job, arguments, "job")
        assert "abc" not in str(told.value)


def test_options_and_file_alike(here: Path) -> None:
    (here / "conf").mkdir()
    (here / "conf/my.yaml").write_text("output: out\nlists: [a.txt]\nroot: images\n")
    job = parse_settings(Job, ["--config", "conf/my.yaml", "--root", "other"], "job")
    assert job.output == f"{here}/out"
    assert job.lists == (f"{here}/a.txt",)
    assert job.root == f"{here}/other"


def test_a_name_stays_and_a_file_of_ones_own_becomes_absolute(here: Path) -> None:
    (here / "mine.yaml").write_text("")
    assert Job(output="out").scheme == "imaginet"
    assert Job(output="out", scheme="nothing").scheme == "nothing"  # its reader says what there is
    for own in ("mine.yaml", "./mine.yaml", str(here / "mine.yaml")):
        assert Job(output="out", scheme=own).scheme == f"{here}/mine.yaml"


def test_no_path_at_all_is_refused(here: Path) -> None:
    with pytest.raises(UserError, match="job: root: is empty; give a path, s3://"):
        parse_settings(Job, ["--output", "out", "--root", ""], "job")


def test_near_paths_are_shown_as_they_are_typed(here: Path) -> None:
    assert nearby(f"{here}/runs/a") == "runs/a"
    for other in ("/elsewhere/a", f"{here.parent}/a", f"{here}-2/a", "s3://bucket/a", "DIR"):
        assert nearby(other) == other


# --- ray job submit -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["output", "trash"])
@pytest.mark.parametrize("path", ["out", "./out", "runs/../out", "package"])
def test_what_would_be_written_into_rays_copy_is_refused(
    package: Path, name: str, path: str
) -> None:
    path = f"{package}/out" if path == "package" else path
    options = {"--output": "/shared/out", f"--{name}": path}
    with pytest.raises(UserError) as caught:
        parse_settings(Job, [word for pair in options.items() for word in pair], "job")
    said = str(caught.value)
    assert said.startswith(f"job: {name}: `ray job submit` runs this on the cluster in a copy")
    assert "give an absolute path on storage that every node shares, or s3://" in said
    assert "\n" not in said


def test_without_a_working_directory_it_is_refused_too(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # as Ray's job manager does
    with pytest.raises(UserError, match="job: output: `ray job submit`"):
        parse_settings(Job, ["--output", "out"], "job")


def test_other_outputs_and_what_is_read_from_the_copy_are_fine(package: Path) -> None:
    job = Job(output="s3://bucket/out", trash="/shared/trash", lists=("lists/a.txt",))
    assert job.lists == (f"{package}/lists/a.txt",)
    assert Job(output="~/out").output == os.path.expanduser("~/out")


def test_another_copy_of_the_same_folder_is_the_same_run(package: Path) -> None:
    job = Job(output="/shared/out", lists=("lists/a.txt",), root="/shared/images")
    told = portable({"settings": job.model_dump(mode="json"), f"{package}/lists/a.txt": "sha"})
    assert told["settings"]["lists"] == ["lists/a.txt"]
    assert told["settings"]["root"] == "/shared/images"
    assert told["lists/a.txt"] == "sha"


# --- every job ------------------------------------------------------------------------------------

# A field whose name or description has one of these words names a place, or says why it does not.
_WORDS = re.compile(
    r"folder|files?\b|\blists?\b|s3://|\bpaths?\b|manifest|recipe|perturbation|scheme|catalogue|suites?\b"
    r"|outputs? of|photographs|detectors?\b|scores\b|anchors|trash|root|cache",
    re.IGNORECASE,
)
_NO_PATHS = {
    "annotate.layout": "a pattern of folder names",
    "audit.column": "a column",
    "audit.roles": "the names of lists, to what they are for",
    "calibrate.fpr_by": "a column",
    "download.sources": "names in the catalogue",
    "evaluate.held_out": "generators",
    "evaluate.name": "how the test set is called",
    "evaluate.names": "how the detectors are called",
    "evaluate.published_as": "names in the table of published figures",
    "evaluate.resample_by": "columns",
    "benchmark.list_sources": "names in the catalogue",
    "benchmark.perturb": "settings, whose own fields are looked at",
    "benchmark.sources": "names in the catalogue",
    "benchmark.train": "settings, whose own fields are looked at",
    "fuse.names": "how the detectors are called",
    "pack.column": "a column",
    "perturb.column": "a column",
    "predict.column": "a column",
    "serve.add_token": "how the token is called",
    "serve.names": "how the detectors are called",
    "train.about": "a sentence",
    "train.target": "a column",
    "tune.start": "settings, made whole by `whole`",
    "tune.train": "settings, whose own fields are looked at",
}
_KINDS = [one.__metadata__[0] for one in (Uri, OutputUri, Packaged, ListUri)]


def is_path(field: FieldInfo) -> bool:
    return any(one in _KINDS for one in (*field.metadata, *parts_of(field.annotation)))


def names_a_place(name: str, field: FieldInfo) -> bool:
    told = f"{name.rpartition('.')[2]} {field.description}"
    return str in parts_of(field.annotation) and _WORDS.search(told) is not None


@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_every_field_that_names_a_place_is_a_path(script: Path) -> None:
    others = {
        name
        for name, field in fields_of(settings_of(script), script.stem)
        if names_a_place(name, field) and not is_path(field)
    }
    assert others == {name for name in _NO_PATHS if name.startswith(f"{script.stem}.")}


@pytest.mark.parametrize("script", JOBS, ids=lambda path: path.stem)
def test_a_path_by_default_becomes_absolute_too(script: Path) -> None:
    model = settings_of(script)
    relative = [
        name
        for name, field in model.model_fields.items()
        if isinstance(field.default, str) and set(_KINDS[:2]) & set(field.metadata)
    ]
    assert not relative or model.model_config["validate_default"]


def test_paths_by_default(here: Path) -> None:
    assert DemoSettings().output == f"{here}/runs/demo"
    weights = WeightsSettings(name="commfor")
    assert weights.output == f"{here}/runs/weights/commfor"
    assert weights.fetched == f"{here}/runs/weights/fetched"
    assert WeightsSettings(name="commfor", output="mine").output == f"{here}/mine"
