"""Hostile input by the thousand: one line to the user, nothing outside the roots."""

import contextlib
import io
import json
import os
import random
import resource
import struct
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayapp import load_detector
from rayapp.benchmark.settings import BenchmarkSettings
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.command_line import parse_settings, run_job
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError, decode
from rayapp.dataset.inputs.listed_inputs import resolve
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.dataset.members import read_image
from rayapp.dataset.scores import read_scores
from rayapp.download.origins.faults import Fault
from rayapp.download.settings import DownloadSettings
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.pack.settings import PackSettings
from rayapp.perturb.settings import PerturbSettings
from rayapp.predict.settings import PredictSettings
from rayapp.report.settings import ReportSettings
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from rayapp.train.settings import TrainSettings
from tests.detectors import saved_detector
from tests.download.helpers import Run, catalogue
from tests.perturb.sets import damaged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODELS: list[Any] = [
    BenchmarkSettings,
    CalibrateSettings,
    DownloadSettings,
    EvaluateSettings,
    PackSettings,
    PerturbSettings,
    PredictSettings,
    ReportSettings,
    TrainSettings,
]
MEMORY_MB = 1_500  # that all inputs together may add to the process
SECONDS = 20.0  # of computing that one input may take, however loaded the machine is


def fuzzed(count: int):
    """So many inputs, the same ones every time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert added < MEMORY_MB, f"{added:.0f} MB were added"


@contextlib.contextmanager
def bounded_time() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled, cut off."""
    bad = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at, length = rng.randrange(max(len(bad), 1)), rng.choice((1, 2, 16, 300))
        kind = rng.randrange(4)
        if kind == 0:
            bad[at : at + length] = rng.randbytes(length)
        elif kind == 1:
            del bad[at : at + length]
        elif kind == 2:
            bad[at:at] = bad[at : at + length]
        else:
            del bad[max(at, 1) :]
    return bytes(bad)


# --- settings -------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["", "/", "..", "s3://", "s3:///x", "file://", "${HOME}", "!!x", "~"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


def ended(model: Any, arguments: list[str], capsys_free: io.StringIO) -> int:
    """Exit code of a job that does nothing; what it says lies in `capsys_free`."""
    with contextlib.redirect_stderr(capsys_free), contextlib.redirect_stdout(io.StringIO()):
        try:
            run_job(model, lambda _: 0, arguments)
        except SystemExit as end:
            return int(end.code or 0)
    raise AssertionError


@given(st.sampled_from(MODELS), st.data())
@fuzzed(1_200)
def test_settings_of_any_value(model: Any, data: st.DataObject):
    names = st.one_of(st.sampled_from(list(model.model_fields)), st.text(max_size=12))
    wanted = data.draw(st.dictionaries(names, values, max_size=6))
    path = Path(os.environ["PYTEST_FUZZ"], "c.yaml")
    with contextlib.suppress(UnicodeEncodeError):
        path.write_text(yaml.safe_dump(wanted, allow_unicode=True), encoding="utf-8")
    said = io.StringIO()
    with bounded_time():
        assert ended(model, ["--config", str(path)], said) in (0, 2)
    assert len(said.getvalue().splitlines()) <= 1, said.getvalue()


@given(st.sampled_from(MODELS), st.binary(max_size=200), st.lists(st.text(max_size=20), max_size=5))
@fuzzed(600)
def test_config_files_of_any_bytes_and_any_arguments(model: Any, data: bytes, words: list[str]):
    path = Path(os.environ["PYTEST_FUZZ"], "b.yaml")
    path.write_bytes(data)
    for arguments in (["--config", str(path)], [*words, "--output", "x"]):
        said = io.StringIO()
        with bounded_time():
            assert ended(model, arguments, said) in (0, 2)
        assert "Traceback" not in said.getvalue()


def test_a_config_that_unfolds_without_end(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with bounded_time(), pytest.raises(UserError):
        parse_settings(PredictSettings, ["--config", str(tmp_path / "c.yaml")], "predict.py")
    (tmp_path / "d.yaml").write_text("[" * 5_000)
    with bounded_time(), pytest.raises(UserError):
        parse_settings(PredictSettings, ["--config", str(tmp_path / "d.yaml")], "predict.py")


@pytest.fixture(autouse=True, scope="module")
def _a_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For tests by hypothesis, which take no fixture of a function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_FUZZ", str(tmp_path_factory.mktemp("fuzz")))
        yield


def folder() -> Path:
    return Path(os.environ["PYTEST_FUZZ"])


# --- lists ----------------------------------------------------------------------------------------

paths = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "../../etc/passwd",
            "/etc/passwd",
            "a/../../b",
            "a\\..\\b",
            "C:/x",
            "./",
            ".",
            "a//b",
            "a/\0/b",
            "a" * 5_000,
            "a/" * 600 + "b",
            "~root/x",
            "s3://b/k",
            "%2e%2e/x",
            "－/../x",
        ]
    ),
)
lines = st.one_of(
    st.text(max_size=60),
    st.builds("{},{}".format, paths, st.sampled_from(["0,0,4,8", "1,0,1,3", "1,9,9,9", "0", ""])),
)


@given(st.lists(lines, max_size=8), st.sampled_from(["imaginet", "corvi", "practical", "demo"]))
@fuzzed(1_000)
def test_lists_of_any_lines(text: list[str], scheme: str):
    path = folder() / "list.txt"
    path.write_bytes("\n".join(text).encode("utf-8", "surrogatepass"))
    root = folder() / "root"
    with bounded_time():
        try:
            found = read_list(path, load_scheme(scheme))
        except UserError as error:
            found, said = None, str(error)
    if found is None:
        assert "\n" not in said
        return
    for item in found.items:
        reached = os.path.normpath(LocalStore(str(root)).uri(item.path))
        assert reached.startswith(f"{root}{os.sep}"), item.path


@given(st.binary(max_size=300))
@fuzzed(300)
def test_lists_of_any_bytes(data: bytes):
    path = folder() / "list.txt"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        read_list(path, load_scheme("imaginet"))


# --- manifests and scores -------------------------------------------------------------------------


def good_manifest() -> bytes:
    rows = [{"id": f"{n}.png", "path": f"{n}.png", "status": "ok", "error": ""} for n in range(40)]
    sink = io.BytesIO()
    pq.write_table(manifest.from_rows(rows, manifest.schema(load_scheme("imaginet"))), sink)
    return sink.getvalue()


GOOD = good_manifest()


@given(st.integers(0, 2**32))
@fuzzed(700)
def test_manifests_with_any_damage(seed: int):
    rng = random.Random(seed)
    (folder() / "manifest.parquet").write_bytes(spoilt(GOOD, rng))
    with bounded_time(), contextlib.suppress(UserError):
        resolve(str(folder() / "manifest.parquet"), root=str(folder()), scheme="imaginet")


columns = st.sampled_from(["id", "path", "status", "error", "origin", "logit", "sha256", "x"])
cells = st.one_of(st.integers(-5, 5), st.text(max_size=8), st.none(), st.floats())


@given(st.dictionaries(columns, st.lists(cells, min_size=3, max_size=3), max_size=5))
@fuzzed(400)
def test_tables_of_any_columns(data: dict[str, list[Any]]):
    with contextlib.suppress(pa.ArrowException):
        table = pa.table({name: pa.array(column) for name, column in data.items()})
        pq.write_table(table, folder() / "manifest.parquet")
        pq.write_table(table, folder() / "scores.parquet")
        with bounded_time(), contextlib.suppress(UserError):
            resolve(str(folder() / "manifest.parquet"), root=str(folder()), scheme="imaginet")
        with bounded_time(), contextlib.suppress(UserError):
            read_scores(open_store(folder()), "0" * 64)


@given(st.sampled_from([".txt", ".csv", ".tar", ".parquet"]), st.integers(0, 2**32), st.binary())
@fuzzed(600)
def test_inputs_of_any_bytes(suffix: str, seed: int, data: bytes):
    """Sound lists, tars and tables, spoilt; and no such thing at all."""
    rng = random.Random(seed)
    sound = {
        ".parquet": GOOD,
        ".tar": good_tar(),
        ".csv": b"id,path\n1,a.png\n2,b.png\n",
        ".txt": b"a.png\nb.png,0,0,4,8\n",
    }
    path = folder() / f"input{suffix}"
    path.write_bytes(spoilt(sound[suffix], rng) if rng.random() < 0.7 else data)
    with bounded_time(), contextlib.suppress(UserError):
        found = resolve(str(path), root=str(folder()) if rng.random() < 0.5 else None)
        for row in found.table.slice(0, 5).to_pylist():
            with contextlib.suppress(OSError, ImageError, UserError):
                read_image(found.root, row)


def good_tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number in range(4):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
    return sink.getvalue()


# --- archives -------------------------------------------------------------------------------------

EVIL = ("../evil.jpg", "/evil.jpg", "train2017/../../evil.jpg", "train2017\\..\\evil.jpg", "C:evil")


def archive(rng: random.Random, kind: str) -> bytes:
    """An archive with good members, some of evil names, some that lie about their size."""
    pictures = list(damaged(6, rng.randrange(1 << 30)).values())
    names = [f"train2017/{n}.jpg" for n in range(4)] + rng.sample(EVIL, 2)
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w", rng.choice((0, 8))) as made:
            for name, data in zip(names, pictures, strict=True):
                made.writestr(name, data)
    else:
        with tarfile.open(fileobj=sink, mode=f"w:{'gz' if kind == 'tgz' else ''}") as tar:
            for name, data in zip(names, pictures, strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("train2017/link.jpg")
            link.type, link.linkname = rng.choice(
                ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../evil"))
            )
            tar.addfile(link)
    data = sink.getvalue()
    return spoilt(data, rng) if rng.random() < 0.7 else data


@given(st.integers(0, 2**32), st.sampled_from(["zip", "tar", "tgz"]))
@fuzzed(500)
def test_archives_with_any_damage(seed: int, kind: str):
    place = folder() / "archives"
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(place.rglob("*"), reverse=True):
            path.unlink() if path.is_file() or path.is_symlink() else path.rmdir()
    (place / "in").mkdir(parents=True, exist_ok=True)
    file = place / f"in/a.{kind}"
    file.write_bytes(archive(random.Random(seed), kind))
    book = catalogue({"at": [str(file)]})
    wanted = [f"train2017/{n}.jpg" for n in range(4)] + ["train2017/link.jpg"]
    run = Run(place / "root", book, wanted, place / "in")
    with bounded_time():
        try:
            rows = run.run()
        except Fault as fault:  # of the whole archive: the job gives its images up by this name
            rows = {path: {"status": "failed", "error": fault.reason} for path in wanted}
    assert set(rows) == set(wanted)  # each is in place or named
    for path, row in rows.items():
        assert row["status"] == "ok" or row["error"], path
    outside = [p for p in place.rglob("*") if p.is_file() and "root" not in p.parts[-4:]]
    assert {p.name for p in outside if place / "root" not in p.parents} <= {f"a.{kind}", "list.txt"}
    assert not any(p.is_symlink() for p in place.rglob("*"))


def test_a_member_that_unpacks_without_end_is_refused(tmp_path: Path):
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made,
        made.open("train2017/0.jpg", "w", force_zip64=True) as member,
    ):
        for _ in range(600):
            member.write(bytes(1 << 20))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.zip").write_bytes(sink.getvalue())
    book = catalogue({"at": [str(tmp_path / "in/a.zip")]})
    with bounded_time():
        rows = Run(tmp_path / "root", book, ["train2017/0.jpg"], tmp_path / "in").run()
    assert rows["train2017/0.jpg"]["status"] != "ok"


# --- images and checkpoints -----------------------------------------------------------------------


@given(st.integers(0, 2**32))
@fuzzed(500)
def test_images_with_any_damage(seed: int):
    for data in damaged(2, seed).values():
        with bounded_time(), contextlib.suppress(ImageError):
            decode(data)


@given(st.integers(0, 2**32), st.sampled_from(["detector.json", "model.safetensors", "both"]))
@fuzzed(500)
def test_detectors_with_any_damage(seed: int, which: str):
    place = folder() / "detector"
    if not place.exists():
        saved_detector(place)
        (folder() / "whole").mkdir()
        for path in place.iterdir():
            (folder() / "whole" / path.name).write_bytes(path.read_bytes())
    rng = random.Random(seed)
    for path in (folder() / "whole").iterdir():
        data = path.read_bytes()
        (place / path.name).write_bytes(spoilt(data, rng) if which in (path.name, "both") else data)
    with bounded_time(), contextlib.suppress(UserError):
        load_detector(place)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "os.system"},
        {"head": {"hidden": 10**12}},
        {"head": {"num_outputs": 10**12}},
        {"options": {"width": 10**9, "depth": 2}},
        {"options": {"width": 8, "depth": 10**9}},
        {"num_networks": 10**9},
        {"options": {"checkpoint_path": "/etc/passwd"}},
        {"options": {"pretrained": True}},
    ],
)
def test_a_detector_that_asks_for_too_much(tmp_path: Path, change: dict[str, Any]):
    saved_detector(tmp_path)
    spec = json.loads((tmp_path / "detector.json").read_text())
    for key, value in change.items():
        there = spec["architecture"].get(key)
        spec["architecture"][key] = there | value if isinstance(there, dict) else value
    (tmp_path / "detector.json").write_text(json.dumps(spec))
    with bounded_time(), pytest.raises(UserError):
        load_detector(tmp_path)


def test_a_header_of_weights_without_end(tmp_path: Path):
    saved_detector(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with bounded_time(), pytest.raises(UserError, match="not a safetensors file"):
        load_detector(tmp_path)
