"""What Google Cloud Storage and Azure Blob Storage have of their own: names, sizes, errors."""

import io
import json
import os
import pickle
import unicodedata
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rayapp.config.errors import UserError
from rayapp.storage.buckets import unreached
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, read_uri
from tests.doubles.clouds import ACCOUNT, ACCOUNT_KEY, Cloud
from tests.doubles.server import Reply, Server

NAMES = [
    "a b.png",
    "per%20cent.png",
    "100%.png",
    "hash#1.png",
    "what?.png",
    "plus+and&.png",
    "semi;colon:.png",
    "quote'\"s.png",
    "[brackets]{braces}.png",
    "tilde~.png",
    "~",
    ".hidden",
    "..two dots",
    "трамвай/图像/🦊.png",
    unicodedata.normalize("NFC", "Ünï.png"),
    unicodedata.normalize("NFD", "Ünï.png"),
    "n" * 200,
]


@pytest.fixture
def store(cloud: Cloud) -> Store:
    return open_store(f"{cloud.scheme}://{cloud.bucket}/{uuid.uuid4().hex}")


def said(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert ACCOUNT_KEY.rstrip("=") not in str(caught.value)
    return str(caught.value)


def test_any_name_comes_back(store: Store) -> None:
    for number, name in enumerate(NAMES):
        assert store.put(name, b"%d" % number, if_absent=True)
    assert [store.get(name) for name in NAMES] == [b"%d" % n for n in range(len(NAMES))]
    assert sorted(stat.key for stat in store.list()) == sorted(NAMES)
    folders, files = store.level("")
    assert list(folders) == ["трамвай"]
    assert sorted(stat.key for stat in files) == sorted(n for n in NAMES if "/" not in n)
    assert read_uri(store.uri("трамвай/图像/🦊.png")) == b"%d" % NAMES.index("трамвай/图像/🦊.png")
    store.delete(NAMES)
    assert list(store.list()) == []


def test_a_backslash_stays_what_it_is_or_is_named(store: Store, cloud: Cloud) -> None:
    if cloud.scheme == "az":
        assert "Azure takes a backslash for a slash" in said(lambda: store.put("a\\b", b""))
        return
    store.put("a\\b", b"1")
    assert [stat.key for stat in store.list()] == ["a\\b"]


def test_the_listing_and_the_object_agree(store: Store) -> None:
    store.put("folder/file", b"12345")
    assert [store.stat("folder/file")] == list(store.list()) == list(store.level("folder")[1])


def test_a_large_file_goes_up_whole_or_not_at_all(store: Store) -> None:
    data = os.urandom(12 << 20)
    file = io.BytesIO(data)
    file.seek(5)  # it is put from its start
    assert store.put("large", file, if_absent=True)
    assert not store.put("large", io.BytesIO(b"x" * (9 << 20)), if_absent=True)
    assert store.get("large") == data
    assert store.get_range("large", 9 << 20, 100) == data[9 << 20 :][:100]
    assert store.put("large", io.BytesIO(data[: 9 << 20]))
    assert store.get("large") == data[: 9 << 20]


def test_folder_marks_of_browsers_are_no_objects(store: Store, cloud: Cloud) -> None:
    store.put("folder/file", b"")
    mark = open_store(f"{cloud.scheme}://{cloud.bucket}")
    mark._put(f"{store.root.rpartition('/')[2]}/folder/", b"", False)  # type: ignore[attr-defined]
    assert [stat.key for stat in store.list()] == ["folder/file"]
    assert [stat.key for stat in store.level("folder")[1]] == ["folder/file"]


def test_what_travels_holds_no_secret(store: Store, cloud: Cloud) -> None:
    store.put("key", b"value")
    sent = pickle.dumps(store)
    assert pickle.loads(sent).get("key") == b"value"
    assert cloud.secret.encode() not in sent


def test_a_missing_bucket_is_named(cloud: Cloud) -> None:
    store = open_store(f"{cloud.scheme}://there-is-none/x")
    for call in (lambda: store.get("k"), lambda: store.put("k", b""), lambda: list(store.list())):
        message = said(call)
        assert message.startswith(f"{cloud.scheme}://there-is-none")
        assert "there is no such" in message


@pytest.mark.parametrize("name", ["no bucket!", "-", "UPPER", "a"])
def test_an_impossible_bucket_is_named(cloud: Cloud, name: str) -> None:
    store = open_store(f"{cloud.scheme}://{name}/x")
    for call in (lambda: store.get("k"), lambda: store.put("k", b""), lambda: list(store.list())):
        assert said(call).startswith(f"{cloud.scheme}://{name}")


def test_an_absent_object_is_named(store: Store) -> None:
    assert said(lambda: read_uri(store.uri("absent"))) == f"{store.uri('absent')}: no such file"


def forget() -> None:
    """The process keeps its client: make it look at the environment anew."""
    import rayapp.storage.azure
    import rayapp.storage.google

    rayapp.storage.azure._client_of.cache_clear()
    rayapp.storage.google._client_of.cache_clear()


def test_a_wrong_key_of_azure_is_named(azure: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = azure.environment["AZURE_STORAGE_CONNECTION_STRING"]
    wrong = connection.replace(ACCOUNT_KEY, "d3Jvbmc=")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    forget()
    store = open_store(f"az://{azure.bucket}/x")
    for call in (
        lambda: store.get("k"),
        lambda: store.put("k", b""),
        lambda: store.stat("k"),
        lambda: list(store.list()),
        lambda: store.delete(["k"]),
    ):
        message = said(call)
        assert message.startswith(f"az://{azure.bucket}/x")
        assert "or the key is wrong: set AZURE_STORAGE_ACCOUNT_NAME" in message


def test_a_wrong_account_of_azure_is_named(azure: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = azure.environment["AZURE_STORAGE_CONNECTION_STRING"].replace(ACCOUNT, "another")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    forget()
    store = open_store(f"az://{azure.bucket}/x")
    for call in (lambda: store.put("k", b""), lambda: list(store.list()), lambda: store.level("")):
        assert said(call) == (
            f"az://{azure.bucket}: there is no such bucket or container, or no such account"
        )


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "no storage account is named; set AZURE_STORAGE_ACCOUNT_NAME"),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=dGVzdGVyLXNlY3JldC1vZi1henVyZQ"},
            "AZURE_STORAGE_CONNECTION_STRING can't be read; copy it anew",
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "tester", "AZURE_STORAGE_ACCOUNT_KEY": "no base 64!"},
            "AZURE_STORAGE_ACCOUNT_KEY is no key of a storage account",
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=tester;AccountKey=no base 64!"},
            "AZURE_STORAGE_CONNECTION_STRING can't be read; copy it anew",
        ),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "no account!"}, "no name of a storage account"),
    ],
)
def test_what_names_the_account_wrongly_is_named(
    azure: Cloud, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: str
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    forget()
    assert wanted in said(lambda: open_store("az://container/x").get("k"))


def test_no_credentials_of_azure_are_named(azure: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "tester")
    forget()
    message = said(lambda: open_store("az://container/x").get("k"))
    assert message.startswith("az://container/x/k: no Azure credentials; set AZURE_STORAGE_ACCOUNT")


def test_the_emulators_own_word_for_itself(azure: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", azure.url)
    forget()
    assert (
        said(lambda: open_store("az://none").get("k")) == "az://none/k: there is no such container"
    )


def test_a_blob_that_grew_is_read_though_its_checksum_is_old(azure: Cloud) -> None:
    from azure.storage.blob import BlobServiceClient, ContentSettings

    connection = azure.environment["AZURE_STORAGE_CONNECTION_STRING"]
    name = uuid.uuid4().hex
    with BlobServiceClient.from_connection_string(connection) as client:
        blob = client.get_blob_client(azure.bucket, name)
        blob.create_append_blob(ContentSettings(content_md5=bytearray(16)))
        blob.append_block(b"a line\n")
    assert open_store(f"az://{azure.bucket}").get(name) == b"a line\n"


def test_a_token_of_azure_reads_and_writes(azure: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime, timedelta

    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    def token(**permissions: bool) -> str:
        made: str = generate_account_sas(
            ACCOUNT,
            ACCOUNT_KEY,
            ResourceTypes(container=True, object=True),
            AccountSasPermissions(**permissions),
            datetime.now(UTC) + timedelta(hours=1),
        )
        return made

    def reach(token: str) -> None:
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"BlobEndpoint={azure.url}/{ACCOUNT};SharedAccessSignature={token}",
        )
        forget()

    store = open_store(f"az://{azure.bucket}/{uuid.uuid4().hex}")
    reach(token(read=True, write=True, create=True, list=True, delete=True))
    assert store.put("k", b"1")
    assert store.get("k") == b"1"
    assert [stat.key for stat in store.list()] == ["k"]
    reader = token(read=True)
    reach(reader)
    assert store.get("k") == b"1"
    for call in (lambda: store.put("k", b"2"), lambda: list(store.list())):
        message = said(call)
        assert "access denied" in message
        assert "sig=" not in message


def test_no_credentials_of_google_are_named(
    google: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    file = tmp_path / "account.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    start = f"gs://bucket/x/k: no Google credentials ({file}, which GOOGLE_APPLICATION_CREDENTIALS "
    forget()
    message = said(lambda: open_store("gs://bucket/x").get("k"))
    assert message.startswith(f"{start}names, is not there); run `gcloud auth")
    file.write_text(json.dumps({"type": "service_account", "private_key": "tester-secret"}))
    message = said(lambda: open_store("gs://bucket/x").get("k"))
    assert message.startswith(f"{start}names, holds none that can be read); run `gcloud auth")
    assert "tester-secret" not in message


def test_refused_credentials_of_google_are_named(
    google: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    refusal = Reply.json({"error": "invalid_grant", "error_description": "Invalid JWT"}, 400)
    with Server(lambda request: refusal) as tokens:
        account = {
            "type": "service_account",
            "project_id": "p",
            "client_email": "a@p.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": tokens.url,
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        forget()
        message = said(lambda: open_store("gs://bucket/x").get("k"))
    assert message == (
        "gs://bucket/x/k: Google does not take the credentials; log in anew, or make a new key"
    )


def test_an_endpoint_that_is_no_url_is_named(
    google: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    forget()
    message = said(lambda: open_store("gs://bucket/x").get("k"))
    assert message.startswith("gs://bucket/x/k: STORAGE_EMULATOR_HOST: 'localhost:4443' is no URL")


@pytest.mark.parametrize(
    "caused",
    [
        "NewConnectionError(\"HTTPConnection(host='h', port=9): Failed to establish a new "
        'connection: [Errno 111] Connection refused")',
        "<urllib3.connection.HTTPSConnection object at 0x7f>: [Errno 111] Connection refused",
    ],
)
def test_a_server_that_is_not_reached_is_said_in_few_words(caused: str) -> None:
    text = f"HTTPConnectionPool(host='h', port=9): Max retries exceeded with url: /? (by {caused})"
    assert unreached(text) == "h:9 was not reached ([Errno 111] Connection refused)"
    assert unreached("another: thing") == "another: thing"


@pytest.mark.parametrize(
    ("uri", "module", "package"),
    [
        ("gs://b", "rayapp.storage.google", "google-cloud-storage"),
        ("az://b", "rayapp.storage.azure", "azure-storage-blob and azure-identity"),
    ],
)
def test_a_client_that_is_not_installed_is_named(
    uri: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for missing in ("google_crc32c", "azure.storage.blob"):
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    message = said(lambda: open_store(uri))
    assert message == f"{uri[:2]}://… needs {package}: pip install 'imaginet-ray[{uri[:2]}]'"
