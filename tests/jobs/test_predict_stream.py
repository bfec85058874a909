"""Large sets, read, scored and written by workers: the same scores whatever form a set has."""

import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset import scores
from rayapp.jobs.predict import predict
from rayapp.metrics.traffic import NOT_SCORED
from rayapp.metrics.traffic_files import read_counts
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector
from tests.doubles.server import Reply, Request, Server
from tests.jobs.test_predict import picture
from tests.pictures import saved
from tests.sets import as_folder, as_tables, as_tars, label_of

pytestmark = pytest.mark.ray
IMAGES = {f"{at:03}.png": picture(at, 40, 44) for at in range(30)} | {"030.png": b"no image"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("detector")
    saved_detector(folder)
    return str(folder)


def streamed(output: object, detector: str, **settings: Any) -> dict[str, Any]:
    """What run.json has."""
    given = {"precision": "exact", "gallery": 3, "stream": True} | settings
    run = predict(PredictSettings(output=str(output), detector=detector, **given))
    return json.loads(run.store.get("run.json"))


def by_name(output: object) -> dict[str, dict[str, Any]]:
    """Rows of the one table by the images' own names."""
    table = scores.read_scores(open_store(output))
    return {re.findall(r"\d{3}\.png", row["path"])[-1]: row for row in table.to_pylist()}


def counted(output: Path) -> dict[str, int]:
    """What the counts of traffic hold beside the scores."""
    (traffic,) = read_counts(str(output)).values()
    total = traffic.whole().total()
    return {"scored": total.logits.total(), "not scored": total.verdicts[NOT_SCORED]}


def test_one_set_in_every_form(tmp_path: Path, detector: str):
    folder = as_folder(tmp_path / "f", IMAGES)
    (tmp_path / "list.txt").write_text("\n".join(IMAGES))
    listed = pa.table({"path": list(IMAGES), "origin": [label_of(name) for name in IMAGES]})
    pq.write_table(listed, tmp_path / "list.parquet")
    inputs = {
        "folder": {"input": folder},
        "list": {"input": tmp_path / "list.txt", "root": str(folder)},
        "listed": {"input": tmp_path / "list.parquet", "root": str(folder)},
        "tables": {"input": as_tables(tmp_path / "data", IMAGES)},
        "tars": {"input": f"{as_tars(tmp_path / 'w', IMAGES)}/{{000000..000001}}.tar"},
    }
    outputs = {name: tmp_path / "out" / name for name in inputs}
    predict(
        PredictSettings(
            detector=detector, input=str(folder), output=str(tmp_path / "small"), precision="exact"
        )
    )
    wanted = by_name(tmp_path / "small")
    for name, given in inputs.items():
        told = streamed(outputs[name], detector, **(given | {"input": str(given["input"])}))
        assert told["counts"] == {"in": 31, "scored": 30, "failed": 1}, name
        assert "030.png" in told["results"]["failures"][0], name
        found = by_name(outputs[name])
        assert found.keys() == wanted.keys()
        logits = [[rows[key]["logit"] for key in IMAGES if key != "030.png"]
                  for rows in (found, wanted)]  # fmt: skip
        np.testing.assert_allclose(*logits, atol=1e-6, err_msg=name)
        assert [row["sha256"] for row in found.values()] == [wanted[key]["sha256"] for key in found]
    assert by_name(outputs["tables"])["007.png"]["label"] == label_of("007.png")
    assert by_name(outputs["tars"])["007.png"]["cls"] == label_of("007.png")
    assert by_name(outputs["listed"])["007.png"]["origin"] == label_of("007.png")


def test_the_folder_is_a_data_set_that_its_manifest_describes(tmp_path: Path, detector: str):
    tables = as_tables(tmp_path / "data", IMAGES, shards=3)
    told = streamed(tmp_path / "out", detector, input=str(tables))
    found = ds.dataset(tmp_path / "out/scores").to_table()
    described = json.loads((tmp_path / "out/scores/_manifest").read_text())
    assert (described["rows"], described["failed"]) == (found.num_rows, 1) == (31, 1)
    files = {path.name for path in (tmp_path / "out/scores").glob("*.parquet")}
    assert {part["file"] for part in described["parts"]} == files
    assert not (tmp_path / "out/scores-checkpoint").exists()
    page = (tmp_path / "out/gallery.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3
    assert counted(tmp_path / "out") == {"scored": 30, "not scored": 1}
    again = streamed(tmp_path / "out", detector, input=str(tables))
    assert again["finished"] == told["finished"]


def test_a_large_result_is_the_folder_alone(
    tmp_path: Path, detector: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rayapp.cluster.streamed.LARGE", 5)
    tables = as_tables(tmp_path / "data", IMAGES)
    told = streamed(tmp_path / "out", detector, input=str(tables))
    assert told["made"] == ["scores"]
    assert not (tmp_path / "out/scores.parquet").exists()
    assert sum(told["results"]["verdicts"].values()) == 30
    assert counted(tmp_path / "out") == {"scored": 30, "not scored": 1}
    page = (tmp_path / "out/gallery.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3


def listed_without(folder: Path, missing: set[str]) -> dict[str, str]:
    """Options of a table of paths, some of which lead nowhere yet."""
    root = as_folder(folder / "f", {k: v for k, v in IMAGES.items() if k not in missing})
    pq.write_table(pa.table({"path": list(IMAGES)}), folder / "list.parquet")
    return {"input": str(folder / "list.parquet"), "root": str(root)}


def test_rows_that_failed_are_tried_again(tmp_path: Path, detector: str):
    missing = {"003.png", "017.png"}
    given = listed_without(tmp_path, missing)
    told = streamed(tmp_path / "out", detector, **given)
    assert told["counts"] == {"in": 31, "scored": 28, "failed": 3}
    before = by_name(tmp_path / "out")
    as_folder(tmp_path / "f", {name: IMAGES[name] for name in missing})
    (tmp_path / "out/scores.csv").unlink()  # so the run is not done, as one that was cut off
    told = streamed(tmp_path / "out", detector, **given)
    assert told["counts"] == {"in": 31, "scored": 30, "failed": 1}
    assert told["results"]["scored_now"] == 3
    rows = ds.dataset(tmp_path / "out/scores").to_table()
    assert rows.num_rows == len(set(rows["id"].to_pylist())) == 31
    described = json.loads((tmp_path / "out/scores/_manifest").read_text())
    assert (described["rows"], described["failed"]) == (31, 1)
    found = by_name(tmp_path / "out")
    assert {n: row["logit"] for n, row in found.items() if n not in missing} == {
        n: row["logit"] for n, row in before.items() if n not in missing
    }
    assert all(found[name]["status"] == "ok" for name in missing)


def test_a_folder_with_other_columns_is_named_and_kept(tmp_path: Path, detector: str):
    """As an earlier version left it, whose scores had one column less."""
    given = {"input": str(as_tables(tmp_path / "data", IMAGES)), "gallery": 0}
    streamed(tmp_path / "out", detector, **given)
    part = next((tmp_path / "out/scores").glob("*.parquet"))
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["map_logits"]), part)
    old = part.read_bytes()
    (tmp_path / "out/scores.csv").unlink()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="lacks the column 'map_logits'") as refusal:
            streamed(tmp_path / "out", detector, **given, overwrite=overwrite)
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).startswith(f"{part}: ")
        assert part.read_bytes() == old
    shutil.rmtree(tmp_path / "out/scores")  # as the line says
    told = streamed(tmp_path / "out", detector, **given)
    assert told["counts"] == {"in": 31, "scored": 30, "failed": 1}


def test_an_image_that_kills_its_worker_is_one_failed_row(tmp_path: Path):
    deadly = picture(99, 40, 45)
    own = tmp_path / "mine.py"
    own.write_text(
        "import os\ndef predict(images):\n"
        "    return [os._exit(1) if i.shape[1] == 45 else 0.5 for i in images]\n"
    )
    tables = as_tables(tmp_path / "data", IMAGES | {"031.png": deadly}, shards=1)
    told = streamed(tmp_path / "out", str(own), input=str(tables), gallery=0)
    assert told["counts"] == {"in": 32, "scored": 30, "failed": 2}
    assert "process died" in by_name(tmp_path / "out")["031.png"]["error"]


def test_images_of_the_web_are_fetched_by_workers(tmp_path: Path, detector: str):
    def answer(request: Request) -> Reply:
        name = os.path.basename(request.path)
        return Reply(body=IMAGES[name]) if name in IMAGES else Reply(404)

    with Server(answer) as server:
        urls = [f"http://127.0.0.1:{server.port}/{name}" for name in ("000.png", "777.png")]
        pq.write_table(pa.table({"url": urls, "text": ["a", "b"]}), tmp_path / "urls.parquet")
        # Small as it is, it is streamed: rows of it are nowhere listed.
        told = streamed(
            tmp_path / "out", detector, input=str(tmp_path / "urls.parquet"), stream=None
        )
    assert told["counts"] == {"in": 2, "scored": 1, "failed": 1}
    assert "HTTP 404" in told["results"]["failures"][0]
    assert by_name(tmp_path / "out")["000.png"]["text"] == "a"


def test_work_that_can_not_start_ends_the_job(tmp_path: Path):
    own = tmp_path / "mine.py"
    own.write_text("raise RuntimeError('no card')\ndef predict(images):\n    return []\n")
    tables = as_tables(tmp_path / "data", IMAGES)
    with pytest.raises((UserError, Exception), match="no card"):
        streamed(tmp_path / "out", str(own), input=str(tables))


def test_large_images_and_a_slow_detector_do_not_fill_the_object_store(tmp_path: Path):
    """300 MB go through a store of 200 MB: reading waits for what is worked on, nothing spills."""
    import ray

    own = tmp_path / "mine.py"
    own.write_text("import time\ndef predict(i):\n    time.sleep(0.1)\n    return [0.5] * len(i)\n")
    noise = np.random.default_rng(0).integers(0, 256, (1290, 1292, 3), dtype=np.uint8)
    image = saved(Image.fromarray(noise), "BMP")
    tables = as_tables(tmp_path / "data", {f"{at:03}.bmp": image for at in range(60)}, shards=6)
    session = Path(ray.nodes()[0]["RayletSocketName"]).parents[1]
    spilled: list[Path] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            spilled.extend(one for one in session.glob("ray_spilled_objects*/*") if one.is_file())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        told = streamed(tmp_path / "out", str(own), input=str(tables), gallery=0)
    finally:
        over.set()
        thread.join()
    assert told["counts"] == {"in": 60, "scored": 60, "failed": 0}
    assert not spilled
