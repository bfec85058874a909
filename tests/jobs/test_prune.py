"""The job on Ray: deciding changes nothing, an application asks, finishes, and says what it did."""

import io
import sys

import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import UserError
from rayapp.jobs.prune import prune
from rayapp.prune.settings import PruneSettings
from rayapp.prune.walk import split
from rayapp.storage.uris import open_store

pytestmark = pytest.mark.ray


@pytest.fixture
def made(tmp_path):
    """150 folders of 2 files, so that Ray walks too; one of each is annotated."""
    for at in range(150):
        folder = tmp_path / "root" / f"{at % 5}" / f"{at}"
        folder.mkdir(parents=True)
        (folder / "keep.png").write_text("k")
        (folder / "go.png").write_text("go")
    lines = [f"{at % 5}/{at}/keep.png,0,0,4,8\n" for at in range(150)]
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def job(made, **more):
    return prune(
        PruneSettings(
            root=str(made / "root"),
            annotations=(str(made / "list.txt"),),
            output=str(made / "out"),
            **more,
        )
    )


def files(made):
    return sorted(str(p.relative_to(made / "root")) for p in (made / "root").rglob("*.png"))


def test_decide_then_apply(made, capsys, monkeypatch):
    assert len(split(open_store(made / "root"))[1]) >= 64  # what Ray walks
    before = files(made)
    run = job(made)
    assert files(made) == before
    assert run.counts == {
        "keep": 150,
        "keep_bytes": 150,
        "remove": 150,
        "remove_bytes": 300,
        "missing": 0,
    }
    assert "all" in capsys.readouterr().out
    decisions = pq.read_table(made / "out/decisions.parquet")
    assert decisions["path"].to_pylist() == sorted(before)

    with pytest.raises(UserError, match="give --yes"):
        job(made, apply=True)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    with pytest.raises(UserError, match="'yes' is not 150: nothing was removed"):
        job(made, apply=True)
    assert files(made) == before
    monkeypatch.setattr(sys, "stdin", Terminal("150\n"))
    run = job(made, apply=True)
    assert files(made) == [path for path in before if path.endswith("keep.png")]
    assert (run.counts["removed"], run.counts["failed"]) == (150, 0)
    assert pq.read_metadata(made / "out/removed.parquet").num_rows == 150
    assert job(made, apply=True).counts["remove"] == 0  # nothing left, nothing asked


def test_missing_images_and_odd_places_are_refused(made):
    (made / "root/0/0/keep.png").unlink()
    with pytest.raises(UserError, match="1 annotated images are missing"):
        job(made, apply=True, yes=True)
    assert len(files(made)) == 299
    with pytest.raises(UserError, match="may not lie in each other"):
        job(made, apply=True, yes=True, trash=str(made / "root/trash"))
    with pytest.raises(UserError, match="give --apply with it"):
        job(made, trash=str(made / "trash"))
    run = job(made, apply=True, yes=True, allow_missing=True, trash=str(made / "trash"))
    assert len(files(made)) == 149
    assert len(list((made / "trash").rglob("*.png"))) == 150
    assert run.counts["folders"] == 1  # the one whose annotated image was missing
    assert not (made / "root/0/0").exists()
