import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from rayapp.dataset import manifest, scores
from rayapp.dataset.labels import load_scheme
from rayapp.predict.gallery import GallerySelection, Missed, page
from rayapp.predict.verdict import Judge
from rayapp.storage.uris import open_store


def table(logits: np.ndarray, origins: list[int] | None = None) -> pa.Table:
    rows = [
        {
            "id": f"{at:04d}",
            "path": f"{at:04d}.png",
            "logit": float(one),
            "status": "ok",
            "error": "",
        }
        | ({"origin": origins[at]} if origins else {})
        for at, one in enumerate(logits)
    ]
    return manifest.from_rows(rows, scores.schema(load_scheme("imaginet") if origins else None))


def told(whole: pa.Table, most: int, step: int = 7) -> GallerySelection:
    selection = GallerySelection(Judge("centre-32"), most)
    for at in range(0, whole.num_rows, step):
        selection.add(whole.slice(at, step))
    return selection


def test_the_most_sure_and_the_least_sure_each_once():
    logits = np.random.default_rng(0).permutation(np.linspace(-6, 6, 101))
    parts = told(table(logits), 10).parts()
    rank = {f"{at:04d}.png": logit for at, logit in enumerate(logits)}
    found = {part: [rank[one["path"]] for one in entries] for part, entries in parts.items()}
    assert found["synthetic"] == sorted(logits, reverse=True)[:4]
    assert found["real"] == sorted(logits)[:2]
    assert np.abs(found["unsure"]).tolist() == sorted(np.abs(logits))[:4]
    paths = [one["path"] for entries in parts.values() for one in entries]
    assert len(paths) == len(set(paths)) == 10


def test_what_one_part_does_not_need_others_have():
    parts = told(table(-np.linspace(1, 3, 40)), 20).parts()  # all real
    assert {part: len(entries) for part, entries in parts.items()} == {"unsure": 16, "real": 4}
    assert sum(map(len, told(table(-np.linspace(1, 3, 12)), 20).parts().values())) == 12


def test_the_choice_does_not_depend_on_the_chunks():
    logits = np.round(np.random.default_rng(1).normal(size=200), 1)  # with ties
    whole = table(logits)
    assert told(whole, 20, 3).parts() == told(whole, 20, 64).parts()


def test_with_labels_the_surely_wrong_come_first():
    logits = np.array([4.0, -5.0, 3.0, -2.0, 0.1])
    parts = told(table(logits, [0, 1, 1, 0, 1]), 5).parts()
    assert next(iter(parts)) == "wrong"
    assert [one["path"] for one in parts["wrong"]] == ["0001.png", "0000.png"]


def test_a_page_of_few_images_shows_all_and_names_what_failed(tmp_path: Path):
    for at in range(4):
        sink = io.BytesIO()
        Image.new("RGB", (300, 200), (60 * at, 0, 0)).save(sink, "PNG")
        (tmp_path / f"{at:04d}.png").write_bytes(sink.getvalue())
    selection = told(table(np.array([3.0, -3.0, 0.1, 0.2])), 500)
    missed = Missed(["<b>.jpg: empty"], 8, 7)
    html = page(selection, open_store(tmp_path), {"detector": "d"}, missed).html()
    assert "7 more are named in scores.csv" in html
    assert html.count("data:image/jpeg;base64,") == 4
    assert "uncalibrated" in html
    assert "&lt;b&gt;.jpg: empty" in html
    assert "3 synthetic, 1 real" in html


def test_images_that_are_gone_leave_no_gap(tmp_path: Path):
    html = page(told(table(np.array([3.0])), 5), open_store(tmp_path), {}, Missed()).html()
    assert "data:image" not in html
