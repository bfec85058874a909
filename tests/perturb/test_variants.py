"""The work itself, without Ray: a pure function of bytes, perturbation, seed and id."""

import random

import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.images import decode, pixel_sha256
from rayapp.perturb.variants import PerturbRows, SizeRows
from rayapp.storage.uris import open_store
from rayapp.transforms import Plan, apply, load_perturbation
from tests.perturb.sets import encoded, make_set, odd_files
from tests.pictures import saved
from tests.transforms.conftest import picture


def rows_of(listed):
    paths = [line.split(",")[0] for line in listed.read_text().splitlines()]
    return [{"id": path, "path": path, "name": f"{at}.webp"} for at, path in enumerate(paths)]


def work_on(folder, output, perturbation="imaginet-test", seed=42):
    work = PerturbRows(
        open_store(folder), open_store(output), load_perturbation(perturbation), seed
    )
    work.setup()
    return work


def hashes(work, rows, batch_size):
    done = []
    for at in range(0, len(rows), batch_size):
        done += work.batch(rows[at : at + batch_size])
    return {row["id"]: row["outputs"][0]["pixel_sha256"] for row in done}


def test_batches_and_order_change_nothing(tmp_path):
    rows = rows_of(make_set(tmp_path / "in", 20))
    expected = hashes(work_on(tmp_path / "in", tmp_path / "1"), rows, 1)
    shuffled = random.Random(1).sample(rows, len(rows))
    for size in (7, 64):
        assert hashes(work_on(tmp_path / "in", tmp_path / f"{size}"), shuffled, size) == expected
    # and hang on seed and id
    assert hashes(work_on(tmp_path / "in", tmp_path / "s", seed=43), rows, 7) != expected
    renamed = [{**row, "id": row["id"] + "!"} for row in rows]
    other = hashes(work_on(tmp_path / "in", tmp_path / "r"), renamed, 7)
    assert set(other.values()) != set(expected.values())


def test_the_stored_plan_makes_the_stored_pixels_again(tmp_path):
    rows = rows_of(make_set(tmp_path / "in", 9, (200, 320)))
    for row in work_on(tmp_path / "in", tmp_path / "out").batch(rows):
        (made,) = row["outputs"]
        source = decode((tmp_path / "in" / row["path"]).read_bytes()).pixels_HWC
        written = decode((tmp_path / "out" / made["path"]).read_bytes()).pixels_HWC
        again = apply(Plan.from_json(made["plan"]), source)
        assert np.array_equal(again, written)
        assert pixel_sha256(written) == made["pixel_sha256"]
        assert (made["height"], made["width"]) == written.shape[:2] == (256, 256)


def test_a_grid_reads_each_image_once_and_leaves_out_what_does_not_fit(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(400, 500)))
    work = work_on(tmp_path, tmp_path / "out", "resize-grid")
    reads = []

    class Counted(type(work.root)):
        def get(self, key):
            reads.append(key)
            return super().get(key)

    work.root = Counted(str(tmp_path))
    (row,) = work.batch([{"id": "a", "path": "a.png", "name": "a.webp"}])
    assert reads == ["a.png"]
    assert [made["variant"] for made in row["outputs"]] == [
        "x1.50",
        "x1.33",
        "x1.20",
        "x1.09",
        "x1.00",
    ]
    assert (row["height"], row["width"]) == (400, 500)


def test_odd_files_are_perturbed_or_named(tmp_path):
    odd = odd_files()
    for name, (data, _) in odd.items():
        (tmp_path / name).write_bytes(data)
    names = [*odd, "absent.jpg"]
    rows = [{"id": name, "path": name, "name": f"{name}.webp"} for name in names]
    done = {row["id"]: row for row in work_on(tmp_path, tmp_path / "out").batch(rows)}
    assert list(done) == names
    assert done.pop("absent.jpg")["error"] == f"{tmp_path}/absent.jpg: no such file"
    for name, row in done.items():
        expected = odd[name][1]
        assert (row["status"], name) == ("failed" if expected else "ok", name), row["error"]
        assert expected in row["error"]
    assert (done["turned.jpg"]["height"], done["turned.jpg"]["width"]) == (280, 300)  # upright


def test_the_published_way_ignores_orientation_and_drops_alpha(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(odd_files()["turned.jpg"][0])
    hidden = np.dstack([picture(300, 280), np.zeros((300, 280), np.uint8)])
    (tmp_path / "hidden.png").write_bytes(saved(Image.fromarray(hidden), "PNG"))
    rows = [{"id": n, "path": n, "name": f"{n}.webp"} for n in ("turned.jpg", "hidden.png")]
    seen, published = work_on(tmp_path, tmp_path / "out"), work_on(tmp_path, tmp_path / "published")
    published.published = True
    turned, hidden = published.batch(rows)
    assert (turned["height"], turned["width"]) == (300, 280)
    source = decode((tmp_path / "hidden.png").read_bytes(), published=True).pixels_HWC
    np.testing.assert_array_equal(source, picture(300, 280))
    made = decode((tmp_path / "published" / hidden["outputs"][0]["path"]).read_bytes()).pixels_HWC
    plan = Plan.from_json(hidden["outputs"][0]["plan"])
    np.testing.assert_array_equal(made, apply(plan, source))
    (white,) = seen.batch(rows[1:])[0]["outputs"]
    assert decode((tmp_path / "out" / white["path"]).read_bytes()).pixels_HWC.min() > 250


def test_a_plan_from_outside_replaces_the_draw(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(300, 300)))
    given = '[{"op":"crop","top":1,"left":2,"height":9,"width":8}]'
    row = {"id": "a", "path": "a.png", "name": "a.webp"}
    work = work_on(tmp_path, tmp_path / "out")
    (made,) = work.batch([{**row, "plan": given, "fault": None}])[0]["outputs"]
    assert (made["height"], made["width"], made["plan"]) == (9, 8, given)
    (failed,) = work.batch([{**row, "plan": None, "fault": "its draw is lost"}])
    assert (failed["status"], failed["error"]) == ("failed", "its draw is lost")


def test_sizes_come_from_headers(tmp_path):
    odd = odd_files() | {
        "late.jpg": (encoded(picture(90, 70), ".jpg", exif=b"Exif\0\0" + bytes(65_000)), "")
    }
    for name, (data, _) in odd.items():
        (tmp_path / name).write_bytes(data)
    work = SizeRows(open_store(tmp_path))
    work.setup()
    done = {r["id"]: r for r in work.batch([{"id": name, "path": name} for name in [*odd, "no"]])}
    for name in ("tiny.png", "wide.png", "tall.jpg", "cmyk.jpg", "turned.jpg", "late.jpg"):
        size = decode(odd[name][0], published=True).pixels_HWC.shape[:2]
        assert (done[name]["height"], done[name]["width"]) == size, name
    assert {name for name, row in done.items() if row["status"] != "ok"} == {
        "empty.jpg",
        "text.png",
        "no",
    }


@pytest.mark.slow
def test_a_huge_image_is_perturbed(tmp_path):
    (tmp_path / "huge.png").write_bytes(encoded(np.zeros((8192, 8192, 3), np.uint8)))
    work = work_on(tmp_path, tmp_path / "out")
    (row,) = work.batch([{"id": "huge", "path": "huge.png", "name": "huge.webp"}])
    assert row["status"] == "ok"
    assert row["outputs"][0]["height"] == 256
