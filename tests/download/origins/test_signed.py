"""Kaggle and the hub: faults 19, 22 and 26, through the real clients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayapp.download.origins import signed
from rayapp.download.origins.access import Access, split_hub
from rayapp.download.origins.faults import Action, Fault
from tests.doubles.hub import Hub
from tests.doubles.kaggle import Kaggle
from tests.download.archives.test_streams import MEMBERS, make_seven
from tests.download.helpers import FAST, Run, catalogue, statuses

DATA = bytes(range(256)) * 200
PATH = "/datasets/o/n/resolve/main/data/000.tgz"
URI = "hf://datasets/o/n@main/data/000.tgz"


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "good-token")
    with Kaggle("photos", DATA) as double:
        yield double


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub({PATH: DATA}) as double:
        yield double


def kaggle_reader():
    return Access(catalogue({"at": ["kaggle://photos"]}), patience=FAST).http_reader(
        "kaggle://photos"
    )


def hub_access(double: Hub) -> Access:
    book = catalogue({"at": [URI]}, hf={"endpoint": double.endpoint.url})
    return Access(book, patience=FAST)


def test_one_call_opens_the_archive_for_ranges(kaggle: Kaggle) -> None:
    reader = kaggle_reader()
    assert reader.read(100, 50) == DATA[100:150]
    assert reader.read(10_000, 50) == DATA[10_000:10_050]
    assert kaggle.minted == 1
    assert {r.method for r in kaggle.storage.requests} == {"GET"}


def test_22_an_expired_url_is_minted_again_and_the_plan_goes_on(kaggle: Kaggle) -> None:
    reader = kaggle_reader()
    reader.pin()
    kaggle.expired.add(1)
    assert reader.read(100, 50) == DATA[100:150]
    assert kaggle.minted == 2


def test_22_a_url_that_expires_again_and_again_fails(kaggle: Kaggle) -> None:
    reader = kaggle_reader()
    reader.pin()
    kaggle.expired |= set(range(99))
    with pytest.raises(Fault, match="400") as caught:
        reader.read(0, 1)
    assert caught.value.action is Action.FAIL
    assert kaggle.minted < 5


def test_26_rules_that_are_not_accepted(kaggle: Kaggle) -> None:
    kaggle.rules_accepted = False
    with pytest.raises(Fault, match=r"accept the rules at .*/c/photos/rules") as caught:
        kaggle_reader().pin()
    assert caught.value.action is Action.FAIL
    assert len(kaggle.api.requests) == 1


def test_a_wrong_token(kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "wrong")
    with pytest.raises(Fault, match="401"):
        kaggle_reader().pin()


def test_hub_resolves_once_and_ranges_the_cdn(hub: Hub) -> None:
    reader = hub_access(hub).http_reader(URI)
    assert reader.read(100, 50) == DATA[100:150]
    assert reader.read(5000, 50) == DATA[5000:5050]
    assert hub.resolved == 1
    location, size, sha256 = signed.hub_file(
        "datasets/o/n", "data/000.tgz", "main", hub.endpoint.url
    )
    assert (size, sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert "localhost" in location


def test_22_hub_resolves_again_when_the_cdn_refuses(hub: Hub) -> None:
    hub.uses_per_url = 3
    reader = hub_access(hub).http_reader(URI)
    for start in range(0, 500, 50):
        assert reader.read(start, 50) == DATA[start : start + 50]
    assert 3 <= hub.resolved <= 6


def test_26_gate(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    with pytest.raises(Fault, match="gated; ask for access") as caught:
        hub_access(hub).http_reader(URI).pin()
    assert caught.value.action is Action.FAIL
    assert len(hub.endpoint.requests) == 1
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert hub_access(hub).http_reader(URI).read(0, 5) == DATA[:5]
    assert all("authorization" not in r.headers for r in hub.cdn.requests)  # stays on the hub


def test_19_hub_limit(hub: Hub) -> None:
    hub.limit_next = 1
    reader = hub_access(hub).http_reader(URI)
    assert reader.read(0, 5) == DATA[:5]


def test_27_hub_missing(hub: Hub) -> None:
    with pytest.raises(Fault, match="not there"):
        hub_access(hub).http_reader("hf://datasets/o/n@main/other.tgz").pin()


def test_37_the_volumes_of_a_pack_are_listed(hub: Hub, tmp_path: Path) -> None:
    """`imaginet.7z.*` is every volume that the repository holds, in order, as one archive."""
    data = make_seven(tmp_path, solid=True)
    cut = len(data) // 3 + 1
    base = "/datasets/o/n/resolve/main/"
    volumes = [data[:cut], data[cut : 2 * cut], data[2 * cut :]]
    hub.files |= {f"{base}p.7z.{n:03}": volumes[n - 1] for n in (2, 1, 3)}
    hub.files[f"{base}README.md"] = b"x"
    entry = {"at": ["hf://datasets/o/n@main/p.7z.*"], "form": "volumes", "paths": {"000/": "000/"}}
    book = catalogue(entry, hf={"endpoint": hub.endpoint.url})
    run = Run(tmp_path / "r", book, list(MEMBERS)[::9], tmp_path)
    assert set(statuses(run.run()).values()) == {""}
    assert run.store.get("000/0000.jpg") == MEMBERS["000/0000.jpg"]
    with pytest.raises(Fault, match="no such file"):
        signed.hub_tree("datasets/o/n", "other.7z.*", "main", hub.endpoint.url)


def test_hub_uris() -> None:
    assert split_hub("datasets/o/n@rev/a/b.tgz") == ("datasets/o/n", "rev", "a/b.tgz")
    assert split_hub("o/n/b.bin") == ("o/n", "main", "b.bin")
    assert signed.hub_headers("http://elsewhere/x") == {}
