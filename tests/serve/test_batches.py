"""Batches: which images may be named, and what becomes of a batch."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import requests
from PIL import Image

from rayapp.serve.batch.batch_roots import Root, under_one_root
from rayapp.serve.batch.batch_runner import Batch
from rayapp.serve.desk import DeskSettings
from rayapp.serve.refusals import Refused
from tests.pictures import photographed, saved
from tests.serve.services import HereScoring, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is allowed, with one beside it that is not."""
    inside, outside = tmp_path / "images", tmp_path / "images-private"
    for one in (inside / "a", outside):
        one.mkdir(parents=True)
    for number in range(3):
        picture = saved(Image.fromarray(photographed(200, 200, number)), "PNG")
        (inside / f"a/{number}.png").write_bytes(picture)
    (outside / "secret.png").write_bytes(picture)
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "linked").symlink_to(outside)
    (inside / "good.png").symlink_to(inside / "a/0.png")
    return inside


def test_images_under_a_root(folder: Path) -> None:
    root = Root.of(str(folder))
    names = [f"{folder}/a/0.png", f"file://{folder}/a/1.png", f"{folder}/a/../good.png"]
    assert under_one_root(names, [root]) == (root, ["a/0.png", "a/1.png", "a/0.png"])


def test_names_may_have_any_letter_and_blank(folder: Path) -> None:
    """Such as those that macOS gives to screenshots, and joined emoji."""
    names = ["5.10\u202fPM.png", "\U0001f468\u200d\U0001f469.png", "a\u00a0b.png", "Größe.png"]
    images = [f"{folder}/{name}" for name in names]
    assert under_one_root(images, [Root.of(str(folder))])[1] == names


def test_all_of_the_disk_is_a_root_too() -> None:
    assert Root.of("/").path_of("/none/a.png") == "none/a.png"


def test_images_in_a_bucket() -> None:
    roots = [Root.of("/none"), Root.of("s3://bucket/set/")]
    assert under_one_root(["s3://bucket/set/a/b.png"], roots) == (roots[1], ["a/b.png"])
    for wrong in ("s3://bucket/set", "s3://bucket/settled/a", "s3://bucket/set/../a", "s3://other/set/a",
                  "s3://bucket/set//a", "s3://bucket/set/./a", "gs://bucket/set/a"):  # fmt: skip
        with pytest.raises(Refused, match="lies under none of the folders"):
            under_one_root([wrong], roots)


@pytest.mark.parametrize(
    "name",
    [
        "{0}-private/secret.png",
        "{0}/../images-private/secret.png",
        "{0}/link.png",
        "{0}/linked/secret.png",
        "file://{0}/%2e%2e/images-private/secret.png",
        "file://{0}/..%2fimages-private%2fsecret.png",
        "a/0.png",
        "{0}",
        "{0}/",
        "~/secret.png",
        "/etc/passwd",
        "http://127.0.0.1/a.png",
        "s3://bucket/a.png",
        "{0}/a/0.png\0",
        "{0}/a/0.png\n/etc/passwd",
        "{0}\\a",
        "",
    ],
)
def test_nothing_outside_of_the_roots_is_taken(folder: Path, name: str) -> None:
    images = [f"{folder}/a/0.png", name.format(folder)]
    with pytest.raises(Refused, match=r"images\.1") as told:
        under_one_root(images, [Root.of(str(folder))])
    assert str(folder) not in told.value.why


@pytest.fixture
def address(scoring: HereScoring, folder: Path, tmp_path: Path) -> Iterator[str]:
    desk = DeskSettings(
        str(tmp_path / "out"), scoring.uris, (str(folder),), ("--precision", "exact")
    )
    with serving(scoring, desk) as found:
        yield found


def ended(address: str, name: str) -> dict[str, object]:
    for _ in range(600):
        found = requests.get(f"{address}/v1/batches/{name}", timeout=60).json()
        if found["state"] not in ("waiting", "running"):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def put_down(output: Path, batch: Batch) -> None:
    """As a service leaves a batch that it did not come to."""
    folder = output / "batches" / batch.id
    folder.mkdir(parents=True)
    (folder / "batch.json").write_text(json.dumps(asdict(batch)))


def test_a_batch_that_the_service_may_no_longer_score_holds_up_no_other(
    scoring: HereScoring, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(folder)
    put_down(tmp_path / "out", Batch("0" * 32, "", "gone", "none", root, 1))
    put_down(tmp_path / "out", Batch("1" * 32, "", "tiny", "none", f"{root}-private", 1))
    put_down(tmp_path / "out", Batch("2" * 32, "", "tiny", "none", root, 1))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))  # no process can be started
    with serving(scoring, DeskSettings(str(tmp_path / "out"), scoring.uris, (root,))) as address:
        found = [ended(address, name * 32) for name in "012"]
    assert [one["state"] for one in found] == ["failed"] * 3
    assert [str(one["error"])[:40] for one in found] == [
        "the service no longer has a detector gon",
        "its images lie under no folder that is s",
        "the service could not score it (FileNotF",
    ]


def test_scores_that_were_removed_are_told_as_that(
    scoring: HereScoring, folder: Path, tmp_path: Path
) -> None:
    done = Batch("0" * 32, "", "tiny", "none", str(folder), 1, "done")
    put_down(tmp_path / "out", done)
    desk = DeskSettings(str(tmp_path / "out"), scoring.uris, (str(folder),))
    with serving(scoring, desk) as address:
        answer = requests.get(f"{address}/v1/batches/{done.id}/scores.csv", timeout=5)
    assert answer.status_code == 404
    assert answer.json() == {"error": "the scores of this batch were removed"}


@pytest.mark.slow
def test_a_batch_is_scored_as_predict_scores_it(address: str, folder: Path) -> None:
    names = [f"{folder}/a/{at}.png" for at in range(3)] + [f"{folder}/gone.png"]
    asked = requests.post(f"{address}/v1/batches", json={"images": names}, timeout=60)
    assert asked.status_code == 202
    found = ended(address, asked.json()["id"])
    assert found["state"] == "done", found
    assert found["counts"] == {"in": 4, "scored": 3, "failed": 1}
    one = f"{address}/v1/batches/{found['id']}"
    lines = requests.get(f"{one}/scores.csv", timeout=60).content.decode("utf-8-sig").splitlines()
    assert len(lines) == 5
    files = [("images", (f"a/{at}.png", (folder / f"a/{at}.png").read_bytes())) for at in range(3)]
    rows = requests.post(f"{address}/v1/score", files=files, timeout=60).json()["images"]
    for row in rows:
        assert any(row["name"] in one and f"{row['probability']:.6f}" in one for one in lines)
    assert requests.delete(one, timeout=60).json()["state"] == "done"


@pytest.mark.slow
def test_a_batch_is_cancelled_and_one_that_was_not_done_goes_on(
    scoring: HereScoring, folder: Path, tmp_path: Path
) -> None:
    desk = DeskSettings(
        str(tmp_path / "out"), scoring.uris, (str(folder),), ("--precision", "exact")
    )
    with serving(scoring, desk) as address:
        url = f"{address}/v1/batches"
        asked = {"images": [f"{folder}/a/0.png"]}
        first, second, third = (
            requests.post(url, json=asked, timeout=60).json()["id"] for _ in range(3)
        )
        for name in (first, second):
            assert requests.delete(f"{url}/{name}", timeout=60).json()["state"] == "cancelled"
        assert requests.get(f"{url}/{second}/scores.csv", timeout=60).status_code == 409
    with serving(scoring, desk) as address:  # the service starts again
        assert ended(address, third)["state"] == "done"
        for name in (first, second):
            found = requests.get(f"{address}/v1/batches/{name}", timeout=60).json()
            assert found["state"] == "cancelled"


def test_what_is_no_batch(address: str, folder: Path) -> None:
    url = f"{address}/v1/batches"
    for name in ("0" * 32, "../../etc/passwd", "x"):
        assert requests.get(f"{url}/{name}", timeout=60).status_code in (404, 422)
    wrong = [
        ({"images": []}, 422),
        ({"images": ["/etc/passwd"]}, 403),
        ({"images": [f"{folder}/a/0.png"], "detector": "none"}, 404),
        ({"images": [f"{folder}/a/0.png"], "output": "/tmp/x"}, 422),
    ]
    for asked, status in wrong:
        assert requests.post(url, json=asked, timeout=60).status_code == status
    assert requests.post(url, data="{}", timeout=60).status_code == 415
