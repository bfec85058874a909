"""Google Drive against a double that checks the JWT: faults 21, 23, 24, and FFHQ (53, 54)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayapp.dataset.images import decode
from rayapp.download.origins.access import Access
from rayapp.download.origins.faults import Action, Fault
from tests.doubles.drive import Drive, refusal
from tests.doubles.server import Reply, Request, Server
from tests.download.helpers import FAST, Run, catalogue, jpeg, make_zip, photos, png, statuses


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Drive, Server]]:
    double = Drive()
    with double.server() as server:
        account = double.write_account(tmp_path / "account.json", server.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        yield double, server


def access(server: Server, **source: object) -> Access:
    entry = {"at": ["drive://f1"], **source}
    return Access(catalogue(entry, drive={"endpoint": server.url}), patience=FAST)


def test_reads_ranges_with_a_signed_token(drive: tuple[Drive, Server]) -> None:
    double, server = drive
    double.files["f1"] = bytes(range(256)) * 100
    reader = access(server).http_reader("drive://f1")
    assert reader.pin().num_bytes == 25_600  # by the metadata, not by a download
    assert double.served == 0
    assert reader.read(300, 10) == double.files["f1"][300:310]
    assert double.tokens_issued == 1
    assert all("range" in r.headers for r in server.requests if r.query.get("alt") == "media")


def test_21_an_expired_token_is_renewed_once(drive: tuple[Drive, Server]) -> None:
    double, server = drive
    double.files["f1"] = bytes(1000)
    reader = access(server).http_reader("drive://f1")
    reader.pin()
    double.expire_tokens = True
    assert reader.read(0, 1000) == bytes(1000)
    assert double.tokens_issued == 2


def test_21_a_refusal_for_good_is_not_renewed_for_ever(drive: tuple[Drive, Server]) -> None:
    double, server = drive
    double.files["f1"] = bytes(1000)
    reader = access(server).http_reader("drive://f1")
    reader.pin()
    before = len(server.requests)
    server.script = lambda q, n, right: refusal(401, "authError") if "files" in q.path else right
    with pytest.raises(Fault, match="renewing") as caught:
        reader.read(0, 10)
    assert caught.value.action is Action.FAIL
    assert len(server.requests) - before < 8


def test_24_a_file_without_quota_is_parked_and_others_go_on(drive: tuple[Drive, Server]) -> None:
    double, server = drive
    double.files |= {"f1": bytes(1000), "f2": b"y" * 1000}
    both = access(server)
    one, two = both.http_reader("drive://f1"), both.http_reader("drive://f2")
    one.pin()

    def script(request: Request, number: int, right: Reply) -> Reply:
        spent = request.path.endswith("f1") and request.query.get("alt") == "media"
        return refusal(403, "downloadQuotaExceeded") if spent else right

    server.script = script
    for _ in range(2):
        with pytest.raises(Fault, match="downloadQuotaExceeded") as caught:
            one.read(0, 10)
        assert caught.value.action is Action.PARK
    sent = [r for r in server.requests if r.path.endswith("f1") and r.query.get("alt") == "media"]
    assert len(sent) == 1  # the second was not even asked
    assert two.read(0, 3) == b"yyy"


def test_25_an_abusive_file_fails_at_once(drive: tuple[Drive, Server]) -> None:
    double, server = drive
    double.files["f1"] = bytes(10)
    reader = access(server).http_reader("drive://f1")
    server.script = lambda q, n, right: (
        refusal(403, "cannotDownloadAbusiveFile") if q.query.get("alt") else right
    )
    with pytest.raises(Fault, match="Abusive"):
        reader.read(0, 10)


def test_27_a_missing_file(drive: tuple[Drive, Server]) -> None:
    with pytest.raises(Fault, match="notFound"):
        access(drive[1]).http_reader("drive://nothing")


def test_no_account_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(Fault, match="service account"):
        _ = Access(catalogue({"at": ["drive://f1"]})).drive


def test_a_folder_lists_its_archives(drive: tuple[Drive, Server], tmp_path: Path) -> None:
    double, server = drive
    double.files["f9"] = make_zip(photos(5))
    double.folders["d"] = {"f9": "suite.zip"}
    book = catalogue({"at": ["drive://d/"]}, drive={"endpoint": server.url})
    rows = Run(tmp_path / "root", book, photos(5), tmp_path).run()
    assert set(statuses(rows).values()) == {""}


def test_a_folder_of_weights_comes_whole(drive: tuple[Drive, Server], tmp_path: Path) -> None:
    double, server = drive
    double.files |= {"w1": b"one", "w2": b"two"}
    double.folders["d"] = {"w1": "a.pth", "w2": "b.pth"}
    entry = {"at": ["drive://d/"], "form": "folder", "kind": "weights", "paths": {}}
    run = Run(tmp_path / "root", catalogue(entry, drive={"endpoint": server.url}), [], tmp_path)
    assert statuses(run.run()) == {"it/a.pth": "", "it/b.pth": ""}
    assert run.store.get("it/b.pth") == b"two"
    served = double.served
    run.run()
    assert double.served == served


def ffhq(drive: Drive, server: Server, tmp_path: Path, md5_of: dict[str, str]) -> Run:
    lines = [f"id-{name},{name},{md5}\n" for name, md5 in md5_of.items()]
    listing = tmp_path / "ffhq.txt"
    listing.write_text("".join(lines))
    entry = {
        "at": ["drive://folder/"],
        "form": "ffhq",
        "listing": str(listing),
        "paths": {"ffhq/": ""},
    }
    book = catalogue(entry, drive={"endpoint": server.url})
    return Run(tmp_path / "root", book, [f"ffhq/{name}" for name in md5_of], tmp_path)


def pixel_md5(data: bytes) -> str:
    return hashlib.md5(decode(data).pixels_HWC.tobytes()).hexdigest()


def test_ffhq_is_checked_by_size_file_and_pixels(
    drive: tuple[Drive, Server], tmp_path: Path
) -> None:
    double, server = drive
    files = {f"{n}.png": png(n) for n in range(6)}
    double.files |= {f"id-{name}": data for name, data in files.items()}
    listed = {name: pixel_md5(data) for name, data in files.items()}
    listed["1.png"] = "0" * 32  # 53: the file is whole, the picture another
    double.files["id-2.png"] = files["2.png"][:-600]  # 54: whole by Drive's md5, cut as an image
    run = ffhq(double, server, tmp_path, listed)
    rows = statuses(run.run())
    assert "pixels" in rows.pop("ffhq/1.png")
    assert "truncated" in rows.pop("ffhq/2.png")
    assert set(rows.values()) == {""}
    for name in ("0.png", "3.png"):
        assert run.store.get(f"ffhq/{name}") == files[name]  # as received, not re-encoded
    assert run.store.stat("ffhq/1.png") is None
    served = double.served
    run.run()
    assert double.served == served + 2  # only what had failed is asked again


def test_faces_that_are_there_are_adopted_by_their_pixels(
    drive: tuple[Drive, Server], tmp_path: Path
) -> None:
    """Copied by hand, or put by a run that was killed before its ledger: not fetched again."""
    double, server = drive
    files = {f"{n}.png": png(n) for n in range(4)}
    double.files |= {f"id-{name}": data for name, data in files.items()}
    run = ffhq(double, server, tmp_path, {name: pixel_md5(data) for name, data in files.items()})
    run.store.put("ffhq/0.png", files["0.png"])
    run.store.put("ffhq/1.png", files["2.png"])  # the right kind of file, another picture
    run.store.put("ffhq/2.png", b"no picture")
    rows = run.run()
    assert set(statuses(rows).values()) == {""}
    assert {path: row["route"] for path, row in rows.items()} == {
        "ffhq/0.png": "present",
        "ffhq/1.png": "single",
        "ffhq/2.png": "single",
        "ffhq/3.png": "single",
    }
    assert all(run.store.get(f"ffhq/{name}") == data for name, data in files.items())
    assert double.served == 3


def test_weights_beside_the_archives_of_a_folder_are_passed_over(
    drive: tuple[Drive, Server], tmp_path: Path
) -> None:
    double, server = drive
    double.files |= {"f8": b"\0" * 900, "f9": make_zip(photos(5))}
    double.folders["d"] = {"f8": "LASTED_pretrained.pt", "f9": "suite.zip"}
    book = catalogue({"at": ["drive://d/"]}, drive={"endpoint": server.url})
    rows = Run(tmp_path / "root", book, photos(5), tmp_path).run()
    assert set(statuses(rows).values()) == {""}


def test_a_file_that_flips_on_the_way_is_read_again(
    drive: tuple[Drive, Server], tmp_path: Path
) -> None:
    double, server = drive
    data = png(1)
    double.files["id-1.png"] = data
    run = ffhq(double, server, tmp_path, {"1.png": pixel_md5(data)})
    flips = [data[:60] + b"\0" + data[61:]]

    def script(request: Request, number: int, right: Reply) -> Reply:
        if request.query.get("alt") == "media" and flips:
            right.body = flips.pop()
        return right

    server.script = script
    assert statuses(run.run()) == {"ffhq/1.png": ""}


def test_23_a_rate_limit_pauses_and_goes_on(drive: tuple[Drive, Server], tmp_path: Path) -> None:
    double, server = drive
    double.files["f1"] = make_zip({"train2017/1.jpg": jpeg(1)})
    reader = access(server).http_reader("drive://f1")
    refused = iter([refusal(403, "userRateLimitExceeded")])
    server.script = lambda q, n, right: next(refused, right) if q.query.get("alt") else right
    assert reader.read(0, 4) == b"PK\x03\x04"
