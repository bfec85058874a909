import io
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from rayapp.cluster import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset.images import pixels_of
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.jobs.reconstruct import reconstruct
from rayapp.models.autoencoders.taesd import Taesd
from rayapp.reconstruct.pair_sheet import difference
from rayapp.reconstruct.settings import ReconstructSettings
from rayapp.storage.uris import open_store
from rayapp.transforms import Plan, apply
from tests.pictures import saved
from tests.transforms.conftest import picture

# Shifts levels and smooths, as an autoencoder does; its own last line is the whole of it.
OWN = """import cv2
def reconstruct(images):
    return [cv2.GaussianBlur(one, (3, 3), 0.8) for one in images]
"""

NEARLY = """import numpy as np
def reconstruct(images):
    return [np.minimum(one, 254) + np.uint8(1) for one in images]
"""


def photographs(folder, count=8):
    """JPEGs, PNGs and WebPs with EXIF, grey ones too; the list of them with generated ones."""
    (folder / "photos").mkdir(parents=True)
    lines = []
    for at in range(count):
        kind = ("JPEG", "JPEG", "PNG", "WEBP")[at % 4]
        image = Image.fromarray(picture(90 + 9 * at, 140 - 3 * at, at))
        image = image.convert("L") if at == 5 else image
        path = f"photos/{at}.{kind.lower()}"
        options = {"JPEG": {"quality": 60 + 4 * at}, "WEBP": {"lossless": True}}.get(kind, {})
        (folder / path).write_bytes(saved(image, kind, **options))
        lines.append(f"{path},0,{at % 2},4,4\n")
    (folder / "made.png").write_bytes((folder / "photos/2.png").read_bytes())
    (folder / "list.txt").write_text("".join(lines) + "made.png,1,0,2,2\n")
    (folder / "own.py").write_text(OWN)
    return folder


def settings(folder, output, **more):
    given = {"annotations": (str(folder / "list.txt"),), "autoencoder": str(folder / "own.py")}
    given |= {"side": 64, "scheme": "demo"} | more
    return ReconstructSettings(root=str(folder), output=str(output), **given)


def rows_of(output):
    return pq.read_table(output / "manifest.parquet").to_pylist()


def test_each_real_image_gets_its_partner(tmp_path):
    folder, out = photographs(tmp_path / "in"), tmp_path / "out"
    run = reconstruct(settings(folder, out, blend=0.5))
    assert run.counts == {"in": 8, "pairs": 8, "failed": 0}
    rows = rows_of(out)
    assert len(rows) == 16
    real = {row["group"]: row for row in rows if row["origin"] == 0}
    partner = {row["group"]: row for row in rows if row["origin"] == 1}
    assert real.keys() == partner.keys() == {row["source_path"] for row in rows}
    for group, one in real.items():
        other = partner[group]
        assert one["path"] == f"real/{group}.webp"
        assert other["path"] == f"reconstructed/{group}.webp"
        same = ("width", "height", "format", "crop", "source_sha256")
        assert {name: one[name] for name in same} == {name: other[name] for name in same}
        assert one["generator"] == 0
        assert other["generator"] == 1
        assert one["autoencoder"] is None
        assert other["autoencoder"] == run.results["autoencoders"]["own"]
        assert 0.3 <= other["strength"] <= 1
        source_HWC = pixels_of((folder / group).read_bytes())
        real_HWC = pixels_of((out / one["path"]).read_bytes())
        assert np.array_equal(real_HWC, apply(Plan.from_json(one["plan"]), source_HWC))
        partner_HWC = pixels_of((out / other["path"]).read_bytes())
        assert 0 < np.abs(partner_HWC.astype(int) - real_HWC).mean() < 12
        rendered_HWC = cv2.GaussianBlur(real_HWC, (3, 3), 0.8)  # what OWN does
        replayed_HWC = apply(Plan.from_json(other["plan"]), rendered_HWC, real_HWC)
        assert np.array_equal(partner_HWC, replayed_HWC), "the plan says all that was done"
        if group == "photos/5.jpeg":
            assert (partner_HWC == partner_HWC[:, :, :1]).all(), "a grey photograph's is grey"
    assert run.results["alignment"] == {"JPEG 4:2:0": 3, "JPEG grey": 1, "PNG": 2, "WEBP": 2}


def test_what_no_partner_can_be_compressed_as_is_left_out_and_named(tmp_path, capsys):
    folder, out = photographs(tmp_path / "in"), tmp_path / "out"
    image = Image.fromarray(picture(70, 90, 3))
    lossy = saved(image, "WEBP", quality=80)
    (folder / "photos/3.webp").write_bytes(lossy)
    (folder / "photos/2.png").write_bytes(saved(image.convert("P"), "PNG"))
    (folder / "photos/0.jpeg").write_bytes(saved(image.convert("CMYK"), "JPEG"))
    run = reconstruct(settings(folder, out))
    assert run.counts == {"in": 8, "pairs": 5, "failed": 0, "left out": 3}
    assert run.results["left_out"] == {
        "JPEG of CMYK: no partner can be made alike": 1,
        "PNG of few colours: no partner can be made alike": 1,
        "WEBP, lossy: no partner can be made alike": 1,
    }
    assert run.results["left_out_paths"] == ["photos/0.jpeg", "photos/2.png", "photos/3.webp"]
    left = [row for row in rows_of(out) if row["status"] == "left out"]
    assert [row["source_path"] for row in left] == run.results["left_out_paths"]
    assert left[-1]["error"] == "WEBP, lossy: no partner can be made alike"
    listed = (out / "lists/list.txt").read_text()
    assert listed.count("\n") == 10
    assert "3.webp" not in listed + (out / "pairs.csv").read_text()
    assert reconstruct(settings(folder, out)).state == "done", "another run tries none of them"
    job = runpy.run_path(str(Path(__file__).parents[2] / "jobs/reconstruct.py"))["job"]
    assert job(settings(folder, out)) == 0
    said = capsys.readouterr().out
    assert "1 left out  WEBP, lossy: no partner can be made alike" in said
    assert "left out: photos/0.jpeg, photos/2.png, photos/3.webp\n" in said
    unaligned = reconstruct(settings(folder, tmp_path / "all", align=False))
    assert unaligned.counts == {"in": 8, "pairs": 8, "failed": 0}


def test_a_partner_that_is_the_image_itself_is_left_out(tmp_path):
    folder, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    (folder / "own.py").write_text("def reconstruct(images):\n    return images\n")
    run = reconstruct(settings(folder, out))
    assert run.counts == {"in": 4, "pairs": 2, "failed": 0, "left out": 2}  # PNG and WebP
    why = "no trace is left: the partner is the image itself"
    assert run.results["left_out"] == {why: 2}


def test_pairs_of_one_file_under_two_names_are_one_group(tmp_path):
    folder, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    for name in ("0-again.jpeg", "9.jpeg"):
        (folder / f"photos/{name}").write_bytes((folder / "photos/0.jpeg").read_bytes())
    (folder / "made.png").unlink()
    reconstruct(settings(folder, out, annotations=()))
    groups = {row["source_path"]: row["group"] for row in rows_of(out)}
    twins = {path: group for path, group in groups.items() if group != path}
    assert twins == {"photos/0.jpeg": "photos/0-again.jpeg", "photos/9.jpeg": "photos/0-again.jpeg"}
    table = (out / "pairs.csv").read_text()
    assert table.count(",photos/0-again.jpeg\n") == 6


def test_lists_and_table_hold_both_of_a_pair_side_by_side(tmp_path):
    folder, out = photographs(tmp_path / "in"), tmp_path / "out"
    reconstruct(settings(folder, out))
    listed = read_list(out / "lists/list.txt", load_scheme(str(out / "scheme.yaml")))
    assert list(listed.scheme.columns) == ["origin", "content", "generator"]
    assert listed.scheme.names("generator") == {0: "real", 1: "own"}
    paths = [item.path for item in listed.items]
    assert paths[:2] == ["real/photos/0.jpeg.webp", "reconstructed/photos/0.jpeg.webp"]
    assert listed.column("origin") == [0, 1] * 8
    assert listed.column("content") == [0, 0, 1, 1] * 4
    assert all((out / path).is_file() for path in paths)
    table = (out / "pairs.csv").read_text().splitlines()
    assert table[0] == "path,origin,generator,group"
    assert "reconstructed/photos/0.jpeg.webp,synthetic,own,photos/0.jpeg" in table
    assert len(table) == 17


def test_the_partner_is_compressed_as_the_real_was(tmp_path):
    """A partner of an autoencoder that does next to nothing: the real image compressed again."""
    folder = photographs(tmp_path / "in")
    (folder / "own.py").write_text(NEARLY)
    reconstruct(settings(folder, tmp_path / "aligned"))
    reconstruct(settings(folder, tmp_path / "not", align=False))
    for row in rows_of(tmp_path / "aligned"):
        if row["origin"] and row["source_path"].endswith("jpeg"):
            assert "jpeg_as" in row["plan"]
            real_HWC, partner_HWC, plain_HWC = (
                pixels_of((tmp_path / where).read_bytes())
                for where in (
                    f"aligned/real/{row['group']}.webp",
                    f"aligned/{row['path']}",
                    f"not/{row['path']}",
                )
            )
            assert np.abs(plain_HWC.astype(int) - real_HWC).max() == 1
            assert np.abs(partner_HWC.astype(int) - real_HWC).mean() < 2.0


@pytest.mark.parametrize("more", [{}, {"blend": 0.7, "perturbation": "demo-train"}])
def test_batch_and_threads_change_nothing(tmp_path, more):
    folder = photographs(tmp_path / "in")
    found = set()
    for size, cpus in ((1, 1), (4, 2), (16, 1)):
        made = settings(folder, tmp_path / f"{size}", batch_size=size, cpus=cpus, **more)
        found.add(reconstruct(made).results["pixels_sha256"])
    assert len(found) == 1


def test_a_perturbation_does_the_same_to_both(tmp_path):
    folder = photographs(tmp_path / "in", 4)
    perturbation = tmp_path / "turn.yaml"
    perturbation.write_text("name: turn\nsteps:\n  - crop: {side: 40, at: random}\n")
    (folder / "own.py").write_text(NEARLY)
    reconstruct(
        settings(
            folder, tmp_path / "out", perturbation=str(perturbation), align=False, format="png"
        )
    )
    for row in rows_of(tmp_path / "out"):
        assert (row["height"], row["width"], row["format"]) == (40, 40, "PNG")
        if row["origin"]:
            pair = [
                tmp_path / "out" / kind / f"{row['group']}.png"
                for kind in ("real", "reconstructed")
            ]
            real_HWC, partner_HWC = (pixels_of(path.read_bytes()) for path in pair)
            assert np.array_equal(partner_HWC, np.minimum(real_HWC, 254) + 1)


def test_a_failed_image_is_a_row_and_is_tried_again(tmp_path):
    folder, out = photographs(tmp_path / "in"), tmp_path / "out"
    sound = (folder / "photos/0.jpeg").read_bytes()
    (folder / "photos/0.jpeg").write_bytes(sound[:400])
    (folder / "photos/2.png").write_bytes(saved(Image.new("RGB", (9, 200)), "PNG"))
    first = reconstruct(settings(folder, out))
    assert first.counts == {"in": 8, "pairs": 6, "failed": 2}
    assert "truncated" in first.results["misses"][0]
    assert "a pair has 16 px at least" in first.results["misses"][1]
    assert "photos/0.jpeg" not in (out / "lists/list.txt").read_text()
    failed = [row for row in rows_of(out) if row["status"] == "failed"]
    assert {row["source_path"] for row in failed} == {"photos/0.jpeg", "photos/2.png"}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    (folder / "photos/0.jpeg").write_bytes(sound)
    second = reconstruct(settings(folder, out))
    assert second.counts == {"in": 8, "pairs": 7, "failed": 1}
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2


def test_of_several_autoencoders_each_image_is_drawn_one(tmp_path):
    folder, out = photographs(tmp_path / "in", 16), tmp_path / "out"
    (folder / "dark.py").write_text(
        "def reconstruct(images):\n    return [i // 2 for i in images]\n"
    )
    both = (str(folder / "own.py"), str(folder / "dark.py"))
    run = reconstruct(settings(folder, out, autoencoder=both, align=False))
    scheme = load_scheme(str(out / "scheme.yaml"))
    assert scheme.names("generator") == {0: "real", 1: "own", 2: "dark"}
    listed = read_list(out / "lists/list.txt", scheme)
    codes = dict(zip((item.path for item in listed.items), listed.column("generator"), strict=True))
    rows = [row for row in rows_of(out) if row["origin"]]
    assert {row["generator"] for row in rows} == {1, 2}
    for row in rows:
        name = scheme.names("generator")[row["generator"]]
        assert codes[row["path"]] == row["generator"]
        assert row["autoencoder"] == run.results["autoencoders"][name]
        pair = [pixels_of((out / path).read_bytes()).mean() for path in
                (f"real/{row['group']}.webp", row["path"])]  # fmt: skip
        assert (pair[1] < 0.6 * pair[0]) == (name == "dark")
        assert f"{row['path']},synthetic,{name}," in (out / "pairs.csv").read_text()
    with pytest.raises(UserError, match="two of the name own"):
        reconstruct(settings(folder, tmp_path / "two", autoencoder=both[:1] * 2))


def test_a_finished_run_is_done_and_notices_what_is_gone(tmp_path):
    folder, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    reconstruct(settings(folder, out))
    assert reconstruct(settings(folder, out)).state == "done"
    next(out.rglob("reconstructed/**/*.webp")).unlink()
    with pytest.raises(JobFailed, match="1 images of the manifest are gone"):
        reconstruct(settings(folder, out))
    (folder / "own.py").write_text(OWN + "# another\n")
    with pytest.raises(UserError, match="input autoencoder own has changed since"):
        reconstruct(settings(folder, out))


def test_a_folder_without_lists_is_all_real(tmp_path):
    folder, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    made = settings(folder, out, annotations=())
    run = reconstruct(made)
    assert run.counts == {"in": 5, "pairs": 5, "failed": 0}
    assert (out / "lists/pairs.txt").read_text().count("\n") == 10
    assert json.loads((out / "run.json").read_text())["counts"]["pairs"] == 5


def test_an_output_below_the_images_is_no_input(tmp_path):
    folder = photographs(tmp_path / "in", 4)
    for _ in range(2):
        run = reconstruct(settings(folder, folder / "pairs", annotations=(), num_workers=None))
        assert run.counts["in"] == 5
    assert run.state == "done"


def test_a_preview_shows_pairs_and_is_no_part_of_the_run(tmp_path):
    folder, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    reconstruct(settings(folder, out))
    run = reconstruct(settings(folder, out, preview=2))
    assert run.state == "done"
    sheet = np.asarray(Image.open(out / "preview.png"))
    assert sheet.shape[1] > 3 * 64
    grey = difference(np.full((4, 4, 3), 90, np.uint8), np.full((4, 4, 3), 92, np.uint8))
    assert (grey == 128 + 40).all()


def test_the_same_pairs_lie_in_s3(tmp_path, s3, monkeypatch):
    # The shared session's workers may be older than the server: four rows need none.
    monkeypatch.setattr(session, "_own", True)
    folder = photographs(tmp_path / "in", 4)
    local = reconstruct(settings(folder, tmp_path / "out"))
    there = f"s3://{s3.bucket}/pairs"
    store = open_store(f"{there}/in")
    for path in folder.rglob("*.*"):
        store.put(path.relative_to(folder).as_posix(), path.read_bytes())
    run = reconstruct(
        ReconstructSettings(
            root=f"{there}/in",
            annotations=(f"{there}/in/list.txt",),
            autoencoder=str(folder / "own.py"),
            scheme="demo",
            side=64,
            output=f"{there}/out",
        )
    )
    assert run.results["pixels_sha256"] == local.results["pixels_sha256"]
    table = pq.read_table(io.BytesIO(open_store(f"{there}/out").get("manifest.parquet")))
    assert table.equals(pq.read_table(tmp_path / "out/manifest.parquet"))


def test_weights_are_fetched_by_the_catalogue_or_asked_for(tmp_path):
    folder, kept = photographs(tmp_path / "in", 4), tmp_path / "kept"
    kept.mkdir()
    torch.manual_seed(0)
    network = Taesd(4, middle_blocks=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), kept / f"taesd_{part}.pth")
    names = [f"autoencoder_taesd/taesd_{part}.pth" for part in ("encoder", "decoder")]
    source = {"about": "x", "kind": "weights", "at": [f"{kept}/{{name}}"], "form": "files",
              "paths": {"autoencoder_taesd/": ""}, "files": dict.fromkeys(names, ""),
              "page": "https://example.org"}  # fmt: skip
    book = {"origins": {}, "sources": {"autoencoder_taesd": source}}
    (tmp_path / "book.yaml").write_text(yaml.safe_dump(book))
    fetched = {"autoencoder": "taesd", "catalogue": str(tmp_path / "book.yaml")}
    fetched |= {"fetched": str(tmp_path / "fetched"), "side": 32}
    (kept / "taesd_decoder.pth").rename(tmp_path / "later.pth")
    with pytest.raises(JobFailed, match=r"by hand from https://example\.org and give --weights"):
        reconstruct(settings(folder, tmp_path / "out", **fetched))
    (tmp_path / "later.pth").rename(kept / "taesd_decoder.pth")
    run = reconstruct(settings(folder, tmp_path / "out", latent_noise=0.2, **fetched))
    assert run.counts["pairs"] == 4
    assert {row["latent_noise"] > 0 for row in rows_of(tmp_path / "out") if row["origin"]} == {True}
    given = settings(folder, tmp_path / "out", latent_noise=0.2, weights=str(kept), **fetched)
    assert reconstruct(given).state == "done", "where the weights lie changes nothing"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"latent_noise": 0.2}, "--latent-noise: a python autoencoder shows no latent"),
        ({"autoencoder": "nobody"}, r"no such file, and no configs/autoencoders/ of that name"),
        ({"autoencoder": "taef2", "weights": "/nowhere"}, "/nowhere: holds no taef2_encoder"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        reconstruct(settings(photographs(tmp_path / "in", 4), tmp_path / "out", **more))


@pytest.mark.ray
def test_ray_makes_the_same_pairs(tmp_path):
    folder = photographs(tmp_path / "in")
    here = reconstruct(settings(folder, tmp_path / "here", blend=0.5))
    there = reconstruct(settings(folder, tmp_path / "there", blend=0.5, on_ray=True))
    assert there.results == here.results
    first, second = (
        pq.read_table(tmp_path / name / "manifest.parquet") for name in ("here", "there")
    )
    assert first.equals(second)


def test_a_cut_too_large_to_be_done_whole_is_refused_with_what_fits(tmp_path):
    folder = photographs(tmp_path / "in", 4)
    (folder / "mine.yaml").write_text(
        f"name: mine\nkind: python\nfiles: {{network: {folder}/own.py}}\nwhole_px: 48\n"
    )
    wanted = {"autoencoder": str(folder / "mine.yaml"), "align": False}
    with pytest.raises(UserError, match=r"--side 64: mine does a cut whole.* give --side 48 at"):
        reconstruct(settings(folder, tmp_path / "out", **wanted))
    assert reconstruct(settings(folder, tmp_path / "out", side=48, **wanted)).counts["pairs"] == 4
