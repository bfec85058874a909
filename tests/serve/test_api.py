"""The API on a real socket: what comes in in which form, and what is answered."""

import base64
import gzip
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from rayapp.serve.desk import DeskSettings
from rayapp.serve.kept_images import KeptImages
from rayapp.serve.settings import Limits
from tests.dataset.declared.files import A1111, png_texts
from tests.pictures import photographed, saved
from tests.serve.services import HereScoring, serving

SCORE = "/v1/score"


@pytest.fixture(scope="module")
def picture() -> bytes:
    return saved(Image.fromarray(photographed(300, 200, 1)), "PNG")


def score(address: str, **given: object) -> requests.Response:
    return requests.post(address + SCORE, timeout=60, **given)  # type: ignore[arg-type]


# --- forms of a request ---------------------------------------------------------------------------


def test_each_form_gives_the_same_answer(address: str, picture: bytes) -> None:
    encoded = base64.b64encode(picture).decode()
    answers = [
        score(address, files=[("images", ("a.png", picture))]),
        score(address, json={"images": [{"name": "a.png", "data": encoded}]}),
        score(address, data=picture, headers={"Content-Type": "image/png"}),
        score(address, data=picture, headers={"Content-Type": "application/octet-stream"}),
        score(address, data=picture),
    ]
    rows = [one.json()["images"] for one in answers]
    assert [len(one) for one in rows] == [1] * 5
    assert [one[0].pop("name") for one in rows] == ["a.png", "a.png", "", "", ""]
    assert all(one == rows[0] for one in rows)
    (row,) = rows[0]
    assert row["status"] == "ok"
    assert (row["width"], row["height"], row["format"]) == (200, 300, "PNG")
    assert row["verdict"] in ("real (uncalibrated)", "synthetic (uncalibrated)")
    assert row["reasons"] == ["uncalibrated"]
    assert row["declared"] == "nothing"
    assert row["map"] is None


def test_several_images_are_answered_in_order_and_a_bad_one_harms_no_other(
    address: str, picture: bytes
) -> None:
    files = [
        ("images", (f"{at}.png", data)) for at, data in enumerate([picture, b"", b"no", picture])
    ]
    answer = score(address, files=files)
    rows = answer.json()["images"]
    assert answer.status_code == 200
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok"]
    assert rows[1]["error"] == "empty file (0 bytes)"
    assert rows[1]["reasons"] == [rows[1]["error"]]
    assert rows[0]["logit"] == rows[3]["logit"]


def test_images_of_one_name_are_two_images(address: str, picture: bytes) -> None:
    other = saved(Image.fromarray(photographed(300, 200, 2)), "PNG")
    rows = score(address, files=[("images", ("a", picture)), ("images", ("a", other))]).json()
    first, second = rows["images"]
    assert first["sha256"] != second["sha256"]
    assert first["logit"] != second["logit"]


def test_a_detector_is_asked_for_by_name(address: str, picture: bytes) -> None:
    first, other = (
        score(address, data=picture, params={"detector": name}).json() for name in ("tiny", "other")
    )
    assert first["detector"]["default"] is True
    assert other["detector"]["default"] is False
    assert first["images"][0]["detector_hash"] == first["detector"]["hash"]
    assert first["images"][0]["logit"] != other["images"][0]["logit"]
    cards = requests.get(f"{address}/v1/detectors", timeout=60).json()
    assert [(one["name"], one["hash"]) for one in cards] == [
        ("tiny", first["detector"]["hash"]),
        ("other", other["detector"]["hash"]),
    ]


def test_what_is_asked_beside_the_score(address: str, picture: bytes) -> None:
    asked = {"map": "1", "stability": "web", "declared": "0"}
    (row,) = score(address, data=picture, params=asked).json()["images"]
    grid = row["map"]
    assert grid["box"] == [0, 0, 200, 300]
    assert np.shape(grid["logits"]) == (grid["rows"], grid["columns"])
    assert grid["rows"] > grid["columns"] > 1
    assert row["declared"] is None
    assert row["p_min"] <= row["probability"] <= row["p_max"]
    assert len(row["delivered_logits"]) == 4


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "status", "why"),
    [
        ({"params": {"detector": "none"}, "data": b"x"}, 404, "there are: tiny, other"),
        ({"params": {"stabilty": "web"}, "data": b"x"}, 422, "stabilty"),
        ({"params": {"map": "maybe"}, "data": b"x"}, 422, "map"),
        ({"data": b"x", "headers": {"Content-Type": "text/html"}}, 415, "multipart/form-data"),
        ({"files": [("other", ("a", b"x"))]}, 422, "files go into the field “images”"),
        # The `@` of curl forgotten: text in the place of a file.
        ({"files": [("images", (None, b"a.jpg"))]}, 422, "curl: -F images=@FILE"),
        ({"files": [("images", (None, b"a.jpg"))] * 3}, 422, "curl: -F images=@FILE"),
        ({"files": [("images", ("a", b"x"))] * 65}, 422, "64"),
        (
            {"files": {}, "data": {}, "headers": {"Content-Type": "multipart/form-data"}},
            422,
            "bound",
        ),
        ({"json": {"images": []}}, 422, "images"),
        ({"json": {"images": [{"data": "%%%"}]}}, 422, "images.0.data: not base64"),
        ({"json": {"images": [{"name": "a"}]}}, 422, "images.0: give either data or url"),
        ({"json": {"images": [{"url": "http://example.org/a"}]}}, 422, "fetches nothing"),
        ({"json": {"images": [{"data": "", "path": "/etc/passwd"}]}}, 422, "images.0.path"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
        ({"data": b"[" * 9999, "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(
    address: str, given: dict[str, object], status: int, why: str
) -> None:
    answer = score(address, **given)
    assert answer.status_code == status, answer.text
    assert why in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.fixture(scope="module")
def narrow(scoring: HereScoring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of small limits."""
    desk = DeskSettings(str(tmp_path_factory.mktemp("narrow")), scoring.uris)
    limits = Limits(max_mb=0.1, upload_s=0.5, max_maps=1)
    with serving(scoring, desk, limits=limits) as found:
        yield found


def test_a_large_body_is_refused_whether_its_length_is_told_or_not(narrow: str) -> None:
    told = score(narrow, data=bytes(200_000))
    untold = score(narrow, data=iter([bytes(50_000)] * 4))
    assert [told.status_code, untold.status_code] == [413, 413]
    assert told.json()["error"] == "the body is larger than 0.1 MB; send fewer images at once"


def test_a_body_that_does_not_come_is_not_waited_for(narrow: str) -> None:
    host, port = narrow.removeprefix("http://").split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST {SCORE} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"some")
        answer = connection.recv(1000)
        while not answer.endswith(b"}"):
            answer += connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'"the body did not come within 0.5 s"}')
    assert time.monotonic() - began >= 0.5


def test_maps_are_of_few_images(narrow: str, picture: bytes) -> None:
    files = [("images", ("a", picture[:99]))] * 2
    assert score(narrow, files=files, params={"map": "1"}).status_code == 422


# --- states and pages -----------------------------------------------------------------------------


def test_states(address: str) -> None:
    assert requests.get(f"{address}/healthz", timeout=60).json() == {"status": "ok"}
    ready = requests.get(f"{address}/readyz", timeout=60).json()
    assert ready == {"status": "ok", "detectors": ["tiny", "other"]}


def test_counts_for_prometheus(scoring: HereScoring, tmp_path: Path, picture: bytes) -> None:
    # A service of its own: what others asked of theirs is counted a while after it was answered.
    with serving(scoring, DeskSettings(str(tmp_path), scoring.uris)) as address:
        _check_counts(address, picture)


def _check_counts(address: str, picture: bytes) -> None:
    def samples() -> dict[str, float]:
        lines = requests.get(f"{address}/metrics", timeout=60).text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def told(found: dict[str, float], start: str) -> float:
        return sum(value for name, value in found.items() if name.startswith(start))

    missed = 'imaginet_requests_total{route="other",status="404"}'
    assert not told(samples(), "imaginet_verdicts_total")
    score(address, files=[("images", ("a", picture))] * 3)
    requests.get(f"{address}/no/such/page", timeout=60)
    after = samples()
    while not (told(after, "imaginet_images_total{") and told(after, missed)):
        time.sleep(0.05)  # the test's own time limit ends it
        after = samples()
    assert told(after, "imaginet_images_total{") == 3
    assert after["imaginet_scored_images_total"] == 3
    assert told(after, missed) == 1
    assert told(after, "imaginet_verdicts_total") == 3


def test_what_is_not_shown_of_declarations_is_counted(scoring: HereScoring, tmp_path: Path) -> None:
    declares = png_texts({"parameters": A1111})
    with serving(scoring, DeskSettings(str(tmp_path), scoring.uris)) as address:
        row = score(address, data=declares, params={"declared": "0"}).json()["images"][0]
        found = ""
        for _ in range(100):
            found = requests.get(f"{address}/metrics", timeout=5).text
            if "imaginet_declared_total{" in found:
                break
            time.sleep(0.05)
    assert row["declared"] is None
    assert re.findall(r'imaginet_declared_total{.*kind="(.*)"} (\d)', found) == [
        ("ai-generated", "1")
    ]


def test_pages_bring_nothing_from_elsewhere(address: str) -> None:
    answer = requests.get(f"{address}/docs", timeout=60)
    assert "/v1/score" in answer.text
    assert "http" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    document = requests.get(f"{address}/openapi.json", timeout=60).json()
    assert set(document["paths"]["/v1/score"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/octet-stream",
        "image/*",
        "application/json",
    }
    assert "JsonImage" in document["components"]["schemas"]


def test_other_addresses_and_methods_are_answered_as_json(address: str) -> None:
    for method, path, status in (("GET", "/x", 404), ("GET", SCORE, 405), ("PUT", "/docs", 405)):
        answer = requests.request(method, address + path, timeout=60)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/docs", "/metrics", "/page.css"])
def test_to_head_answers_what_answers_to_get(address: str, path: str) -> None:
    head, get = (requests.request(one, address + path, timeout=5) for one in ("HEAD", "GET"))
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_a_body_that_says_it_is_packed_is_refused(address: str, picture: bytes) -> None:
    answer = score(address, data=gzip.compress(picture), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert "Content-Encoding" in answer.json()["error"]
    assert score(address, data=picture, headers={"Content-Encoding": "identity"}).ok


def test_the_rows_are_json_that_every_reader_takes(address: str, picture: bytes) -> None:
    text = score(address, data=picture, params={"map": "1", "stability": "web"}).text

    def refused(word: str) -> None:
        raise AssertionError(word)

    json.loads(text, parse_constant=refused)


def test_kept_images_are_called_by_hash_and_removed_in_time(
    scoring: HereScoring, tmp_path: Path, picture: bytes
) -> None:
    (tmp_path / "kept/ab").mkdir(parents=True)
    others = [tmp_path / "kept" / name for name in ("own.jpg", "ab/notes", f"cd{'0' * 62}")]
    for one in others:
        one.write_text("not ours")
        os.utime(one, (0, 0))
    kept = KeptImages(str(tmp_path / "kept"), hours=1)
    with serving(scoring, DeskSettings(str(tmp_path), scoring.uris), kept=kept) as address:
        score(address, files=[("images", ("my name.png", picture))])
    everything = {one for one in (tmp_path / "kept").rglob("*") if one.is_file()}
    (file,) = everything - set(others)
    assert file.read_bytes() == picture
    assert len(file.name) == 64
    kept.sweep()
    assert file.exists()
    os.utime(file, (0, 0))
    kept.sweep()
    assert not file.exists()
    assert all(one.exists() for one in others)
    assert not any("my name" in str(one) for one in tmp_path.rglob("*"))


def test_an_image_that_cannot_be_kept_is_scored(
    scoring: HereScoring, tmp_path: Path, picture: bytes
) -> None:
    (tmp_path / "kept").write_text("no folder")
    kept = KeptImages(str(tmp_path / "kept"), hours=1)
    with serving(scoring, DeskSettings(str(tmp_path), scoring.uris), kept=kept) as address:
        assert score(address, data=picture).json()["images"][0]["status"] == "ok"
