import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from rayapp.dataset import manifest, scores
from rayapp.dataset.labels import load_scheme
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.verdicts import Judge
from rayapp.predict.gallery import Gallerist, Missed
from rayapp.predict.gallery_selection import NEAR, GallerySelection
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


def cards(html: str) -> list[dict[str, Any]]:
    """The cards of a page, in their order."""
    pieces = re.findall(r'<script type="application/json">(.*?)</script>', html)
    return [card for piece in pieces for card in json.loads(piece)]


def in_groups(html: str) -> Counter[str]:
    """How many cards each group has."""
    return Counter(card["group"] for card in cards(html))


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
    assert found["synthetic"] == sorted(logits, reverse=True)[:3]
    assert found["real"] == sorted(logits)[:1]
    assert np.abs(found["unsure"]).tolist() == sorted(np.abs(logits))[:3]
    paths = [one["path"] for entries in parts.values() for one in entries]
    assert len(paths) == len(set(paths)) == 10


def test_what_one_part_does_not_need_others_have():
    parts = told(table(-np.linspace(1, 3, 40)), 20).parts()  # all real, none near
    numbers = {part: len(entries) for part, entries in parts.items()}
    assert numbers == {"real": 14, "drawn at random, called real": 6}
    assert sum(map(len, told(table(-np.linspace(1, 3, 12)), 20).parts().values())) == 12


def test_next_to_the_threshold_is_only_what_is(tmp_path: Path):
    logits = np.linspace(-4, 4, 41)
    parts = told(table(logits), 500).parts()
    assert {abs(one["margin"]) <= NEAR for one in parts["unsure"]} == {True}
    assert all(abs(one["margin"]) > NEAR for one in parts["synthetic"] + parts["real"])
    images(tmp_path, 41)
    found = in_groups(html_of(told(table(logits), 500), tmp_path))
    assert found == {"near the threshold": 5, "surest synthetic": 18, "surest real": 18}
    far = in_groups(html_of(told(table(np.array([3.0, -3.0])), 500), tmp_path))
    assert far == {"surest synthetic": 1, "surest real": 1}


def test_unsure_images_have_a_group_of_their_own(tmp_path: Path):
    images(tmp_path, 4)
    judge = Judge("centre-32", calibration())  # unsure from 0.4 to 0.7
    html = html_of(told(table(np.array([0.9, 0.0, -3.0, 3.0])), 9, judge=judge), tmp_path)
    found = cards(html)
    # What wants a look first comes first; the second is at 0.71.
    assert [card["group"] for card in found[:2]] == ["unsure", "near the threshold"]
    assert in_groups(html) == {
        "unsure": 1,
        "near the threshold": 1,
        "surest synthetic": 1,
        "surest real": 1,
    }
    assert "where the detector is unsure" in found[0]["lines"][0]


def test_the_choice_does_not_depend_on_the_chunks():
    logits = np.round(np.random.default_rng(1).normal(size=200), 1)  # with ties
    whole = table(logits)
    assert told(whole, 20, 3).parts() == told(whole, 20, 64).parts()


def test_some_are_drawn_at_random_and_each_group_says_what_it_stands_for():
    logits = np.random.default_rng(4).normal(-1, 2, 3000)
    selection = told(table(logits), 100)
    parts, strata = selection.parts(), selection.strata()
    drawn = {part: entries for part, entries in parts.items() if part.startswith("drawn")}
    assert {part: len(entries) for part, entries in drawn.items()} == {
        "drawn at random, called synthetic": 15,
        "drawn at random, called real": 15,
    }
    assert sum(strata.values()) == 3000
    assert strata["surest synthetic"] == len(parts["synthetic"])
    called_real = int((logits < 0).sum())
    assert called_real - 100 < strata["drawn at random, called real"] < called_real
    # Of all sides of those called real, not of the surest: 3,000 galleries of 15 are like them.
    many = told(table(logits), 1500).parts()["drawn at random, called real"]
    picked = [logits[int(one["path"][:4])] for one in many]
    rest = logits[logits < 0]
    assert abs(np.mean(picked) - rest.mean()) < 0.35


def test_where_all_are_shown_each_stands_for_itself(tmp_path: Path):
    images(tmp_path, 9)
    logits = np.linspace(-4, 4, 9)
    found = cards(html_of(told(table(logits), 500), tmp_path))
    sizes = in_groups(html_of(told(table(logits), 500), tmp_path))
    assert {card["group"]: card["stands_for"] for card in found} == {
        group: [num, 9] for group, num in sizes.items()
    }


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
    assert "<dialog" not in html


def test_any_path_travels_whole_and_ends_no_script(tmp_path: Path):
    whole = table(np.array([3.0]))
    name = 'a/b "c" & <d>/</script><!--é,1.png'
    (tmp_path / name).parent.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / name)
    whole = whole.set_column(whole.schema.get_field_index("path"), "path", pa.array([name]))
    html = html_of(told(whole, 5), tmp_path)
    assert [card["path"] for card in cards(html)] == [name]
    assert html.count("<!--") == 0


def test_what_the_detector_saw_is_drawn(tmp_path: Path):
    images(tmp_path, 1, (300, 200))
    one = told(table(np.array([3.0])), 5)
    seen = html_of(one, tmp_path, view=Preprocessing(size=100))
    (card,) = cards(seen)
    assert card["size"] == [300, 200]
    assert card["boxes"] == [[100.0, 50.0, 100.0, 100.0]]
    assert len(card["dimmed"]) == 8
    assert "Dimmed is what the detector did not see" in seen
    for whole in (Preprocessing(size=400), Preprocessing(size=100, view="tiles"), None):
        assert "dimmed" not in cards(html_of(one, tmp_path, view=whole))[0]


def test_a_thumbnail_stands_upright_with_what_was_seen_on_it(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6  # turned a quarter, as phones write it
    lying = Image.new("RGB", (300, 200), (0, 0, 255))
    lying.paste((255, 0, 0), (0, 0, 300, 100))  # its upper half, which is to stand on the right
    lying.save(tmp_path / "0000.png", exif=exif)
    one = told(table(np.array([3.0])), 5)
    html = html_of(one, tmp_path, view=Preprocessing(size=100))
    (card,) = cards(html)
    assert card["size"] == [200, 300]
    picture = Image.open(io.BytesIO(base64.b64decode(card["thumbnail"].partition(",")[2])))
    assert picture.size == (160, 240)
    left, right = picture.getpixel((20, 120)), picture.getpixel((140, 120))
    assert left[2] > 200 > 50 > left[0]
    assert right[0] > 200 > 50 > right[2]


def test_what_was_disturbed_first_is_shown_whole(tmp_path: Path):
    images(tmp_path, 1)
    whole = table(np.array([3.0]))
    at = whole.schema.get_field_index("variant")
    whole = whole.set_column(at, "variant", pa.array(["jpeg-50"]))
    (card,) = cards(html_of(told(whole, 5), tmp_path, view=Preprocessing(size=100)))
    assert "dimmed" not in card
    assert card["lines"] == ["scored as jpeg-50, shown as it is"]


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


def test_parts_chosen_apart_and_merged_are_those_of_the_sort_of_all():
    """Top-k a part, merged, in any order, with ties and images that are listed twice."""
    rng = np.random.default_rng(3)
    count, most = 600, 24
    logits = np.round(rng.normal(0, 2, count), 1)  # many ties
    whole = table(logits, [int(one) for one in rng.integers(0, 2, count)])
    paths = [f"{at // 2 * 2 if at % 40 == 1 else at:04d}.png" for at in range(count)]
    logits[1::40] = logits[0::40]  # of a picture that is listed twice
    whole = whole.set_column(whole.schema.get_field_index("path"), "path", pa.array(paths))
    whole = whole.set_column(
        whole.schema.get_field_index("logit"), "logit", pa.array(logits, pa.float32())
    ).append_column("row", pa.array(range(count), pa.int64()))
    at_once = told(whole, most, step=count)
    order = rng.permutation(count)
    parts = [
        told(whole.take(pa.array(order[at : at + 50])), most, step=17) for at in range(0, count, 50)
    ]
    merged = GallerySelection(Judge("centre-32"), most)
    for part in parts:
        merged.merge(part)
    assert merged.parts() == at_once.parts()
    assert merged.counts == at_once.counts
    # The sort of all, by hand, of one part: the surest synthetic.
    margins = {}
    for path, logit in zip(paths, logits, strict=True):
        p = 1 / (1 + np.exp(-np.float32(logit)))
        margins.setdefault(path, float(p) - 0.5)
    sure = sorted((m for m in margins.values() if m > NEAR), reverse=True)
    got = [one["margin"] for one in merged.ranked("synthetic")]
    np.testing.assert_allclose(got, sure[:most], atol=1e-6)
