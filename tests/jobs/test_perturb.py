import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import JobFailed, UserError
from rayapp.jobs.perturb import perturb
from rayapp.perturb.settings import PerturbSettings
from tests.perturb.sets import damaged, encoded, make_set, outcome
from tests.transforms.conftest import picture


def settings(folder, output, **more):
    more = {"annotations": (str(folder / "test.txt"),), **more}
    return PerturbSettings(root=str(folder), output=str(output), scheme="demo", **more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 1}, "leave seed at 42"),
        ({"perturbation": "jpeg-grid"}, "leave perturbation at imaginet-test"),
    ],
)
def test_published_draws_take_none_of_ours(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        settings(tmp_path, tmp_path, draws="published", **more)


def test_a_root_without_files_is_wrong_use(tmp_path):
    make_set(tmp_path, 1)
    wrong = settings(tmp_path, tmp_path / "out").model_copy(update={"root": str(tmp_path / "no")})
    with pytest.raises(UserError, match="--root holds no file"):
        perturb(wrong)


@pytest.mark.ray
def test_a_failed_image_is_tried_again_and_nothing_else(tmp_path):
    make_set(tmp_path / "in", 30)
    missing = tmp_path / "in/images/0004.png"
    data = missing.read_bytes()
    missing.unlink()
    wanted = settings(tmp_path / "in", tmp_path / "out", preview=2)
    first = perturb(wanted)
    assert first.counts == {"in": 30, "written": 29, "skipped": 0, "failed": 1}
    assert first.results["misses"] == [f"images/0004.png: {missing}: no such file"]
    assert (tmp_path / "out/preview.png").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.webp")}
    missing.write_bytes(data)
    second = perturb(wanted)
    assert second.counts == {"in": 30, "written": 30, "skipped": 0, "failed": 0}
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.webp")}
    assert len(after.items() - before.items()) == 1
    assert before.items() <= after.items()
    assert not (tmp_path / "out/parts").exists()

    done = perturb(wanted)
    assert done.state == "done"
    next(iter(after)).unlink()
    with pytest.raises(JobFailed, match="1 images of the manifest are gone"):
        perturb(wanted)


@pytest.mark.ray
def test_a_variant_that_does_not_fit_is_a_row_not_a_failure(tmp_path):
    folder = tmp_path / "in"
    make_set(folder, 2)
    (folder / "images/0000.jpg").write_bytes(encoded(picture(700, 600), ".jpg"))
    run = perturb(settings(folder, tmp_path / "out", perturbation="resize-grid"))
    assert run.counts == {"in": 2, "written": 7, "skipped": 15, "failed": 0}
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    assert len(rows) == 2 * 11
    assert run.results["variants"]["x2.00"] == {"ok": 1, "skipped": 1}
    assert "lists/x6.00/test.txt" not in run.results["lists"]


@pytest.mark.ray
@pytest.mark.slow
def test_no_damaged_file_ends_the_job_or_gets_lost(tmp_path):
    files = damaged(2000)
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in/test.txt").write_text("".join(f"{name},0,0,4,4\n" for name in files))
    run = perturb(settings(tmp_path / "in", tmp_path / "out", perturbation="corvi-256"))
    counts = run.counts
    assert counts["in"] == counts["written"] + counts["failed"] == 2000
    assert counts["failed"] > 500
    assert counts["written"] > 100  # much damage is to pixels alone
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    assert {row["source_id"] for row in rows} == set(files)
    named = [row["error"] for row in rows if row["status"] == "failed"]
    assert all(named)
    assert not [text for text in named if "Error:" in text.split(" ")[0]], "an unforeseen error"
    assert outcome(tmp_path / "out")["counts"] == counts
