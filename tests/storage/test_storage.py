"""One test body for each kind of store: a local folder, and real servers of S3 and two clouds."""

import contextlib
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri
from rayapp.storage.s3 import s3_client
from rayapp.storage.store import PARTIAL_SUFFIX, LocalStore, Store, _machine, check_key
from rayapp.storage.uris import open_store, read_uri, split_uri
from tests.doubles.clouds import Cloud
from tests.doubles.s3 import S3

CLOUDS = {"gs": "google", "az": "azure"}
ESCAPES = ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "./a", "a/.", "a/", "a\0b"]


@pytest.fixture(params=["local", "s3", "s3 without prefix", "gs", "az"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty place."""
    if request.param == "local":
        return str(tmp_path / "root")
    if request.param in CLOUDS:
        cloud: Cloud = request.getfixturevalue(CLOUDS[request.param])
        return f"{cloud.scheme}://{cloud.bucket}/{uuid.uuid4().hex}/in a #1? prefix"
    server: S3 = request.getfixturevalue("s3")
    if request.param == "s3":
        return f"s3://{server.bucket}/{uuid.uuid4().hex}/in a #1? prefix"
    return request.getfixturevalue("whole_bucket")


@pytest.fixture
def whole_bucket(s3: S3) -> Iterator[str]:
    """URI of a bucket, emptied afterwards; each bucket takes the server's volumes, so one it is."""
    client = s3_client()
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="whole-bucket")
    yield "s3://whole-bucket"
    store = open_store("s3://whole-bucket")
    store.delete([found.key for found in store.list()])


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


def test_put_get_stat_delete(store: Store) -> None:
    key = "wikiart/Ünïcode ✓/a, b#1?.png"
    assert store.stat(key) is None
    with pytest.raises(FileNotFoundError):
        store.get(key)
    assert store.put(key, b"first")
    before = store.stat(key)
    assert before is not None
    assert (before.key, before.size) == (key, 5)
    assert store.put(key, b"second!")
    after = store.stat(key)
    assert store.get(key) == b"second!"
    assert after is not None
    assert after.size == 7
    assert after.etag != before.etag
    assert after.modified >= before.modified > 1.6e9
    store.delete([key, "never/there"])
    assert store.stat(key) is None
    assert keys(store) == []


def test_empty_object(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.get_range("empty", 0, 10) == b""


@pytest.mark.parametrize(
    ("start", "length", "wanted"),
    [
        (0, 3, b"012"),
        (4, 3, b"456"),
        (8, 9, b"89"),
        (10, 1, b""),
        (99, 5, b""),
        (3, 0, b""),
        (3, -1, b""),
    ],
)
def test_range(store: Store, start: int, length: int, wanted: bytes) -> None:
    store.put("digits", b"0123456789")
    assert store.get_range("digits", start, length) == wanted


def test_range_of_nothing(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.get_range("absent", 0, 1)


def test_a_folder_is_no_object(store: Store) -> None:
    store.put("folder/file", b"x")
    assert store.stat("folder") is None
    assert store.stat("folder/file/below") is None
    with pytest.raises(FileNotFoundError):
        store.get("folder/file/below")
    store.delete(["folder/file/below"])
    assert keys(store) == ["folder/file"]


def test_list(store: Store) -> None:
    names = ["a.txt", "a/1", "a/2/3", "ab", "b/1", ".hidden", "notes.part"]
    for name in names:
        store.put(name, name.encode())
    assert keys(store) == sorted(names)
    assert keys(store, "a") == ["a.txt", "a/1", "a/2/3", "ab"]
    assert keys(store, "a/") == ["a/1", "a/2/3"]
    assert keys(store, "a/2/3") == ["a/2/3"]
    assert keys(store, "absent/") == []
    assert {found.key: found.size for found in store.list()} == {n: len(n) for n in names}


@pytest.mark.slow
def test_list_goes_beyond_a_page(s3: S3) -> None:
    store = open_store(f"s3://{s3.bucket}/{uuid.uuid4().hex}")
    names = [f"n{number:04}" for number in range(1005)]
    put = boto3.client("s3", **s3.client_options).put_object
    prefix = store.root.removeprefix(f"s3://{s3.bucket}/")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: put(Bucket=s3.bucket, Key=f"{prefix}/{name}", Body=b""), names))
    assert keys(store) == names
    store.delete(names)
    assert keys(store) == []


def test_siblings_of_the_prefix_are_not_listed(root: str) -> None:
    open_store(f"{root}/run").put("mine", b"")
    open_store(f"{root}/run2").put("other", b"")
    assert keys(open_store(f"{root}/run")) == ["mine"]


def test_delete_leaves_no_empty_folders(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "root"))
    store.put("a/b/c/gone", b"")
    store.put("a/kept", b"")
    store.delete(["a/b/c/gone"])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "kept", "root"]


def test_delete_leaves_no_folder_that_it_made_and_every_one_that_it_found(tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    for name in ("found", "made/of/several"):
        store = open_store(str(tmp_path / name))
        for _ in range(2):  # as often as it is made
            store.put("a/b", b"x")
            store.delete(["a/b"])
            assert [path.name for path in tmp_path.iterdir()] == ["found"]
    assert list((tmp_path / "found").iterdir()) == []


@pytest.mark.parametrize("root", ["local", "s3", "gs", "az"], indirect=True)
def test_if_absent_has_one_winner(store: Store) -> None:
    store.stat("lock")  # the client is made before the race
    barrier = threading.Barrier(16)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put("lock", b"%d" % number, if_absent=True)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    assert store.get("lock") == b"%d" % won.index(True)
    assert store.put("lock", b"again", if_absent=True) is False
    assert keys(store) == ["lock"]


@pytest.mark.parametrize("root", ["local", "s3", "gs", "az"], indirect=True)
def test_readers_see_old_or_new_never_a_part(store: Store) -> None:
    old, new = b"o" * 300_000, b"n" * 400_000
    store.put("object", old)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.put("object", new)
            store.put("object", old)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        seen = {store.get("object") for _ in range(40)}
        stop.set()
        writing.result()
    assert seen <= {old, new}


def test_failing_write_leaves_the_old_file_and_no_partial(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("file", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a write beyond it is an OSError
    try:
        with pytest.raises(OSError, match="File too large"):
            store.put("file", b"n" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.get("file") == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_dead_processes_left_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    theirs = tmp_path / "folder" / f".{killed.pid}-{_machine()}-ab{PARTIAL_SUFFIX}"
    theirs.parent.mkdir()
    kept = [
        tmp_path / f".{os.getpid()}-{_machine()}-ab{PARTIAL_SUFFIX}",  # a put at work
        tmp_path / f".{killed.pid}-00000000-ab{PARTIAL_SUFFIX}",  # of another machine
        tmp_path / f".x{PARTIAL_SUFFIX}",
        tmp_path / "file",
    ]
    for path in (theirs, *kept):
        path.write_bytes(b"half")
    store.sweep(0.0)
    assert not theirs.exists()
    assert all(path.exists() for path in kept)
    store.sweep(time.time() + 1)
    assert set(os.listdir(tmp_path)) == {"folder", "file"}


def test_a_partial_of_a_killed_writer_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / f".12-ab{PARTIAL_SUFFIX}").write_bytes(b"half")
    assert keys(LocalStore(str(tmp_path))) == []


def test_name_too_long_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert store.put("n" * 255, b"x")
    with pytest.raises(OSError, match="too long"):
        store.put("m" * 256, b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("key", ESCAPES)
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_no_key_leaves_the_root(tmp_path: Path, kind: str, key: str) -> None:
    store = open_store(str(tmp_path / "root") if kind == "local" else "s3://bucket/prefix")
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.stat(key),
        lambda: store.delete([key]),
    ]
    for call in calls:
        with pytest.raises(UserError, match="not a relative path"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.parametrize("prefix", ["/", "../", "../x", "a/../b", "//x"])
def test_no_list_leaves_the_root(tmp_path: Path, kind: str, prefix: str) -> None:
    store = open_store(str(tmp_path) if kind == "local" else "s3://bucket/prefix")
    with pytest.raises(UserError, match="not a relative path"):
        list(store.list(prefix))


@given(st.text(st.sampled_from("ab./\\\0~ "), max_size=8))
def test_checked_keys_stay_under_any_root(key: str) -> None:
    try:
        check_key(key)
    except UserError:
        return
    assert os.path.normpath(f"/root/{key}").startswith("/root/")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    (root / "file").write_text("x")
    assert keys(LocalStore(str(root))) == ["file"]


def test_stores_travel(store: Store) -> None:
    store.put("key", b"value")
    assert pickle.loads(pickle.dumps(store)).get("key") == b"value"


def test_uri_and_split(store: Store, root: str) -> None:
    store.put("folder/file.txt", b"text")
    uri = store.uri("folder/file.txt")
    assert uri == f"{root}/folder/file.txt"
    assert store.uri() == root
    assert read_uri(uri) == b"text"
    folder, name = split_uri(uri)
    assert (folder.root, name) == (f"{root}/folder", "file.txt")
    with pytest.raises(UserError, match=r"absent\.txt: no such file"):
        read_uri(store.uri("absent.txt"))


def test_read_of_a_folder_or_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a folder, a file is wanted"):
        read_uri(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_uri(tmp_path / "file" / "below")


def test_local_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").write_text("x")
    for uri in ("a b", "./a b", "~/a b", str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        assert read_uri(uri) == b"x"
        assert absolute_uri(uri) == str(tmp_path / "a b")
    assert split_uri("file:///top")[0].root == "/"
    assert absolute_uri("s3://bucket/x") == "s3://bucket/x"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://bucket/x", "scheme 'ftp' is not known; give a path, s3://…, gs://… or az://…"),
        ("gcs://bucket/x", "scheme 'gcs' is not known; write gs://bucket/prefix"),
        ("abfss://c@account.dfs.core.windows.net/x", "write az://bucket/prefix"),
        ("s3:///x", "names no bucket"),
        ("gs://", "names no bucket; write gs://bucket/prefix"),
        ("az:///x", "names no bucket; write az://bucket/prefix"),
    ],
)
def test_wrong_uris(uri: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        open_store(uri)


def test_split_needs_a_file_name() -> None:
    for uri in ("/", "s3://bucket", "s3://bucket/"):
        with pytest.raises(UserError, match="names no"):
            split_uri(uri)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("new_s3_client")
def test_threads_that_begin_together_share_one_client() -> None:
    together = threading.Barrier(8)

    def begin(_: int) -> object:
        together.wait()
        return s3_client()

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(begin, range(8))
    assert all(client is first for client in others)


@pytest.mark.usefixtures("new_s3_client")
def test_wrong_secret_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(f"s3://{s3.bucket}/x")
    for call in (lambda: store.get("k"), lambda: store.put("k", b""), lambda: list(store.list())):
        message = refusal(call)
        assert message.startswith(f"s3://{s3.bucket}/x")
        assert message.endswith("the secret key is wrong")
    assert "access denied" in refusal(lambda: store.stat("k"))
    assert "the secret key is wrong" in refusal(lambda: store.delete(["k"]))


@pytest.mark.usefixtures("new_s3_client")
def test_unknown_key_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    message = refusal(lambda: open_store(f"s3://{s3.bucket}").get("k"))
    assert message == f"s3://{s3.bucket}/k: the access key is not known there"


@pytest.mark.usefixtures("new_s3_client")
def test_no_credentials_are_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert "credentials" in refusal(lambda: open_store(f"s3://{s3.bucket}").get("k"))


def test_missing_bucket_is_named(s3: S3) -> None:
    store = open_store("s3://there-is-none/x")
    for call in (lambda: store.get("k"), lambda: list(store.list())):
        assert refusal(call).endswith("there is no such bucket")


def test_impossible_bucket_is_named(s3: S3) -> None:
    assert "Invalid bucket name" in refusal(lambda: open_store("s3://no bucket!").get("k"))


@pytest.mark.usefixtures("new_s3_client")
def test_impossible_endpoint_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert "AWS_ENDPOINT_URL" in refusal(lambda: open_store("s3://bucket").get("k"))


def test_server_checks_what_it_got(s3: S3) -> None:
    """Negative control: this double is no yes-man, a damaged upload is refused."""
    client = boto3.client("s3", **s3.client_options)
    with pytest.raises(client.exceptions.ClientError, match="BadDigest"):
        client.put_object(Bucket=s3.bucket, Key="k", Body=b"x", ChecksumSHA256="A" * 43 + "=")
