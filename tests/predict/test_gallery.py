import base64
import io
import re
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from rayapp.dataset import manifest, scores
from rayapp.dataset.labels import load_scheme
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.verdicts import Judge
from rayapp.predict.gallery import NEAR, Gallerist, GallerySelection, Missed
from rayapp.storage.uris import open_store
from tests.models.test_verdicts import calibration


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


def told(whole: pa.Table, most: int, step: int = 7, judge: Judge | None = None) -> GallerySelection:
    selection = GallerySelection(judge or Judge("centre-32"), most)
    for at in range(0, whole.num_rows, step):
        selection.add(whole.slice(at, step))
    return selection


def html_of(
    selection: GallerySelection,
    folder: Path,
    missed: Missed | None = None,
    view: Preprocessing | None = None,
    rates: str = "",
) -> str:
    page = Gallerist(open_store(folder).get, view, rates).page(
        selection, {"detector": "d"}, missed or Missed()
    )
    return page.html()


def sections(html: str) -> dict[str, str]:
    """What stands under each heading."""
    parts = html.split("<h2>")[1:]
    return {part.partition("</h2>")[0]: part for part in parts}


def images(folder: Path, count: int, size: tuple[int, int] = (300, 200)) -> None:
    for at in range(count):
        Image.new("RGB", size, (60 * at % 256, 0, 0)).save(folder / f"{at:04d}.png")


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
    parts = told(table(-np.linspace(1, 3, 40)), 20).parts()  # all real, none near
    assert {part: len(entries) for part, entries in parts.items()} == {"real": 20}
    assert sum(map(len, told(table(-np.linspace(1, 3, 12)), 20).parts().values())) == 12


def test_next_to_the_threshold_is_only_what_is(tmp_path: Path):
    logits = np.linspace(-4, 4, 41)
    parts = told(table(logits), 500).parts()
    assert {abs(one["margin"]) <= NEAR for one in parts["unsure"]} == {True}
    assert all(abs(one["margin"]) > NEAR for one in parts["synthetic"] + parts["real"])
    images(tmp_path, 41)
    found = sections(html_of(told(table(logits), 500), tmp_path))
    near = found["Nearest to the threshold"]
    assert "with a probability within 0.1 of the threshold (0.5)" in near
    assert near.count("<figure") == len(parts["unsure"]) == 5
    assert found["Most likely real"].count("<figure") == 18
    assert found["Most likely synthetic"].count("<figure") == 18
    far = sections(html_of(told(table(np.array([3.0, -3.0])), 500), tmp_path))
    assert "Nearest to the threshold" not in far
    assert "Unsure" not in far


def test_unsure_images_have_a_section_of_their_own(tmp_path: Path):
    images(tmp_path, 4)
    judge = Judge("centre-32", calibration())  # unsure from 0.4 to 0.7
    found = sections(
        html_of(told(table(np.array([0.9, 0.0, -3.0, 3.0])), 9, judge=judge), tmp_path)
    )
    assert found["Unsure"].count("<figure") == 1
    assert found["Nearest to the threshold"].count("<figure") == 1  # at 0.71
    assert found["Most likely real"].count("<figure") == 1


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
    images(tmp_path, 4)
    selection = told(table(np.array([3.0, -3.0, 0.1, 0.2])), 500)
    html = html_of(selection, tmp_path, Missed(["<b>.jpg: empty"], 8, 7))
    assert "7 more are named in scores.csv" in html
    assert html.count("data:image/jpeg;base64,") == 4
    assert "uncalibrated" in html
    assert "&lt;b&gt;.jpg: empty" in html
    assert "3 synthetic, 1 real" in html


def test_images_that_are_gone_leave_no_gap(tmp_path: Path):
    html = html_of(told(table(np.array([3.0])), 5), tmp_path)
    assert "data:image" not in html
    assert "Most likely synthetic" not in html


def test_the_full_path_can_be_copied(tmp_path: Path):
    whole = table(np.array([3.0]))
    name = 'a/b "c" & <d>/é.png'
    (tmp_path / name).parent.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / name)
    whole = whole.set_column(whole.schema.get_field_index("path"), "path", pa.array([name]))
    html = html_of(told(whole, 5), tmp_path)
    (copied,) = re.findall(r'data-text="([^"]*)"', html)
    assert unescape(copied) == name
    (shown,) = re.findall(r"<code>(.*)</code>", html)
    assert unescape(re.sub(r"</?(wbr|strong)>", "", shown)) == name


def test_what_the_detector_saw_is_drawn(tmp_path: Path):
    images(tmp_path, 1, (300, 200))
    one = told(table(np.array([3.0])), 5)
    seen = html_of(one, tmp_path, view=Preprocessing(size=100))
    assert '<svg viewBox="0 0 300 200"' in seen
    assert '<rect class="box" x="100.0" y="50.0" width="100.0" height="100.0"/>' in seen
    assert seen.count('<rect class="dim"') == 8
    assert "Dimmed is what the detector did not see" in seen
    for whole in (Preprocessing(size=400), Preprocessing(size=100, view="tiles"), None):
        assert "<svg" not in html_of(one, tmp_path, view=whole)


def test_a_thumbnail_stands_upright_with_what_was_seen_on_it(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6  # turned a quarter, as phones write it
    lying = Image.new("RGB", (300, 200), (0, 0, 255))
    lying.paste((255, 0, 0), (0, 0, 300, 100))  # its upper half, which is to stand on the right
    lying.save(tmp_path / "0000.png", exif=exif)
    one = told(table(np.array([3.0])), 5)
    html = html_of(one, tmp_path, view=Preprocessing(size=100))
    assert '<svg viewBox="0 0 200 300"' in html
    (uri,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", html)
    picture = Image.open(io.BytesIO(base64.b64decode(uri)))
    assert picture.size == (160, 240)
    left, right = picture.getpixel((20, 120)), picture.getpixel((140, 120))
    assert left[2] > 200 > 50 > left[0]
    assert right[0] > 200 > 50 > right[2]


def test_what_was_disturbed_first_is_shown_whole(tmp_path: Path):
    images(tmp_path, 1)
    whole = table(np.array([3.0]))
    at = whole.schema.get_field_index("variant")
    whole = whole.set_column(at, "variant", pa.array(["jpeg-50"]))
    assert "<svg" not in html_of(told(whole, 5), tmp_path, view=Preprocessing(size=100))


def test_the_detector_errors_stand_in_words(tmp_path: Path):
    html = html_of(told(table(np.array([3.0])), 5), tmp_path, rates="Of 100 real images …")
    assert "Of 100 real images …" in sections(html)["Verdicts"]


def test_an_image_that_is_named_often_is_shown_once():
    whole = table(np.array([3.0] * 30 + [-3.0] * 2))
    names = pa.array(["a.png"] * 30 + ["b.png", "c.png"])
    whole = whole.set_column(whole.schema.get_field_index("path"), "path", names)
    selection = told(whole, 10)
    assert selection.counts == {"synthetic": 30, "real": 2}
    assert {part: len(found) for part, found in selection.parts().items()} == {
        "synthetic": 1,
        "real": 2,
    }
