"""Perturb, pack and audit on a set in any form: what they make is what lists of it give."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from rayapp.audit.settings import AuditSettings
from rayapp.dataset import manifest
from rayapp.dataset.images import pixels_of
from rayapp.dataset.tiles import TileIndex
from rayapp.jobs.audit import audit
from rayapp.jobs.pack import pack
from rayapp.jobs.perturb import perturb
from rayapp.jobs.predict import predict
from rayapp.pack.settings import PackSettings
from rayapp.perturb.settings import PerturbSettings
from rayapp.predict.settings import PredictSettings
from rayapp.predict.summary import summary_lines
from rayapp.storage.uris import open_store
from rayapp.transforms import Window
from tests.jobs.test_predict import picture
from tests.sets import as_folder, as_tables, as_tars, label_of

pytestmark = pytest.mark.ray
IMAGES = {f"{at:03}.png": picture(at, 70, 64) for at in range(12)}
IMAGES |= {"012.png": IMAGES["001.png"], "013.png": b"no image"}
DEMO = {"scheme": "demo"}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The settings that name one set in each form."""
    at = tmp_path_factory.mktemp("sets")
    folder = as_folder(at / "f", IMAGES)
    codes = {0: "0,0,4,4", 1: "1,0,0,0"}
    lines = [f"{name},{codes[label_of(name)]}" for name in IMAGES]
    (at / "list.txt").write_text("\n".join(lines) + "\n")
    # Columns of one's own that are called as ours are left alone, or give way.
    table = {"path": list(IMAGES), "origin": [label_of(name) for name in IMAGES]}
    table |= {"quality": ["high"] * 14, "plan": ["none"] * 14, "shard": ["mine"] * 14}
    (at / "listed").mkdir()
    pq.write_table(pa.table(table), at / "listed/list.parquet")
    return {
        "folder": {"input": str(folder)},
        "list": {"input": str(at / "list.txt"), "root": str(folder), **DEMO},
        "listed": {"input": str(at / "listed/list.parquet"), "root": str(folder)},
        "tables": {"input": str(as_tables(at / "t", IMAGES))},
        "tars": {"input": f"{as_tars(at / 'w', IMAGES)}/{{000000..000001}}.tar"},
    }


def name_of(text: str) -> str:
    return re.findall(r"\d{3}\.png", text)[-1]


def described(folder: Path) -> dict[str, Any]:
    """What `_manifest` says, once it is held to the parts."""
    said = json.loads((folder / "_manifest").read_text())
    assert said["rows"] == ds.dataset(folder).count_rows()
    assert {one["file"] for one in said["parts"]} == {p.name for p in folder.glob("*.parquet")}
    return said


def test_perturbed_images_of_every_form_are_those_of_the_list(tmp_path: Path, forms: Any) -> None:
    asked = {"perturbation": "jpeg-grid", "output": str(tmp_path / "lists")}
    by_list = perturb(
        PerturbSettings(annotations=(forms["list"]["input"],), root=forms["list"]["root"],
                        **DEMO, **asked)
    )  # fmt: skip
    whole = manifest.read_table(by_list.store, "manifest.parquet").to_pylist()
    columns = ("variant", "pixel_sha256", "source_sha256", "plan")
    for form, given in forms.items():
        output = tmp_path / form
        run = perturb(PerturbSettings(**given, **(asked | {"output": str(output)})))
        assert run.counts == by_list.counts, form
        assert "013.png" in name_of(run.results["misses"][0])
        rows = manifest.read_table(run.store, "manifest.parquet").to_pylist()
        assert described(output / "manifest")["rows"] == len(rows)
        # Kept for the image that failed, which the same command tries again.
        assert [one.name for one in output.glob("rows*")] == ["rows"]
        if form in ("folder", "list", "listed"):  # there ids, and with them draws, are the same
            found = {(row["source_path"], *(row[name] for name in columns)) for row in rows}
            assert found == {(r["source_path"], *(r[name] for name in columns)) for r in whole}
        for row in rows:
            if row["status"] == "ok":
                data = (output / row["path"]).read_bytes()
                assert len(data) == row["bytes"]
    labels = manifest.read_table(open_store(tmp_path / "list"), "manifest.parquet")
    assert set(labels["origin"].to_pylist()) == {0, 1}
    assert labels.schema.metadata == {b"label_scheme": b"demo"}


def test_images_that_failed_are_perturbed_again(tmp_path: Path) -> None:
    """Of a finished run too, as of lists: an image may not have been there yet."""
    late = {name: IMAGES[name] for name in ("004.png", "011.png")}
    root = as_folder(
        tmp_path / "f", {k: v for k, v in IMAGES.items() if k not in {*late, "013.png"}}
    )
    names = [name for name in IMAGES if name != "013.png"]
    pq.write_table(pa.table({"path": names}), tmp_path / "list.parquet")
    given = {"input": str(tmp_path / "list.parquet"), "root": str(root)}
    settings = PerturbSettings(**given, perturbation="jpeg-grid", output=str(tmp_path / "out"))
    first = perturb(settings)
    assert (first.counts["in"], first.counts["failed"]) == (13, 2)
    whole = manifest.read_table(first.store, "manifest.parquet").to_pylist()
    assert perturb(settings).counts == first.counts
    as_folder(tmp_path / "f", late)
    run = perturb(settings)
    assert run.counts["failed"] == 0
    rows = manifest.read_table(run.store, "manifest.parquet").to_pylist()
    assert described(tmp_path / "out/manifest")["rows"] == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    sound = {row["id"]: row["pixel_sha256"] for row in whole if row["status"] == "ok"}
    assert sound.items() < {row["id"]: row["pixel_sha256"] for row in rows}.items()
    assert not list((tmp_path / "out").glob("rows*"))
    assert perturb(settings).state == "done"


def test_tiles_of_a_set_read_back_as_the_image(tmp_path: Path, forms: Any) -> None:
    for form in ("listed", "tables"):
        given = forms[form]
        output = tmp_path / form
        run = pack(PackSettings(**given, tile_px=32, output=str(output)))
        assert (run.counts["in"], run.counts["failed"]) == (14, 1), form
        described(output / "tiles")
        (output / "tiles.parquet").unlink()  # then the folder of parts stands for it
        store = open_store(output)
        index = TileIndex(store)
        assert len(index) == 13
        rows = manifest.read_table(store, "tiles.parquet").to_pylist()
        for row in rows:
            if row["status"] == "ok":
                seen = index.picture(row["path"]).read(Window(3, 5, 50, 40))
                wanted = pixels_of(IMAGES[name_of(row["path"])])
                np.testing.assert_array_equal(seen, wanted[3:53, 5:45], err_msg=form)
            else:
                assert (row["shard"], row["offset"]) == (None, None)


def test_a_set_is_inspected_and_its_repeats_found(tmp_path: Path, forms: Any) -> None:
    for form in ("listed", "tars"):
        given = forms[form]
        output = tmp_path / form
        run = audit(AuditSettings(**given, output=str(output)))
        assert run.counts | {"remarks": 0} == {
            "images": 14, "wrong": 1, "remarks": 0, "decoded": 13, "failed": 1
        }, form  # fmt: skip
        described(output / "manifest")
        told = json.loads((output / "audit.json").read_text())
        kinds = {one["kind"]: one["text"] for one in told["findings"]}
        assert "013.png" in kinds["broken"]
        assert kinds["copy"].startswith("1 files repeat the bytes of another; ")
        assert "001.png" in kinds["copy"]
        assert "012.png" in kinds["copy"]
        page = (output / "audit.html").read_text(encoding="utf-8")
        assert "Files of equal bytes" in page
        rows = manifest.read_table(open_store(output), "manifest.parquet").to_pylist()
        by = {name_of(row["path"]): row for row in rows}
        assert by["001.png"]["container"] == "PNG"
        assert by["013.png"]["container"] is None
        assert by["013.png"]["sha256"]


def test_predict_names_repeats_of_a_listed_and_of_a_streamed_set(
    tmp_path: Path, forms: Any
) -> None:
    own = tmp_path / "own.py"
    own.write_text("def predict(images):\n    return [0.5] * len(images)\n")
    for form, stream in (("folder", False), ("tables", True)):
        asked = {"detector": str(own), "output": str(tmp_path / form), "gallery": 0}
        run = predict(PredictSettings(input=forms[form]["input"], stream=stream, **asked))
        assert run.results["repeats"]["files"] == 1, form
        (line,) = [one for one in summary_lines(run.counts, run.results) if "repeat" in one]
        assert line.startswith("1 files repeat the bytes of another: ")
        assert [name_of(one) for one in line.split(" = ")] == ["001.png", "012.png"]


def test_a_large_result_is_the_folder_alone(
    tmp_path: Path, forms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayapp.cluster.streamed.LARGE", 5)
    given = forms["tables"]
    made = perturb(PerturbSettings(**given, perturbation="jpeg-grid", output=str(tmp_path / "p")))
    assert not (tmp_path / "p/manifest.parquet").exists()
    assert described(tmp_path / "p/manifest")["failed"] == 1
    assert made.counts["failed"] == 1
    seen = audit(AuditSettings(**given, output=str(tmp_path / "a")))
    assert seen.results["repeats"]["files"] == 1
    assert not (tmp_path / "a/manifest.parquet").exists()


@pytest.mark.parametrize("settings", [AuditSettings, PackSettings, PerturbSettings])
def test_lists_or_an_input_are_asked_for(tmp_path: Path, settings: Any) -> None:
    output = {"output": str(tmp_path / "out")}
    with pytest.raises(ValueError, match="give --annotations, the lists, or --input"):
        settings(**output)
    with pytest.raises(ValueError, match="give --annotations, the lists, or --input"):
        settings(annotations=("a.txt",), root="x", input="y", **output)
    with pytest.raises(ValueError, match="give --root"):
        settings(annotations=("a.txt",), **output)
    with pytest.raises(ValueError, match="--column: goes with --input"):
        settings(annotations=("a.txt",), root="x", column="y", **output)
