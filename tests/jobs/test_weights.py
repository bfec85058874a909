"""Published weights from a server of our own: fetched once, converted once, known by their hash."""

import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rayapp import load_detector
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset.images import sha256
from rayapp.jobs.weights import weights
from rayapp.models import published_weights
from rayapp.models.scope import published_scope
from rayapp.weights.settings import WeightsSettings
from tests.detectors import tiny_detector
from tests.doubles.server import Server, files_handler


def catalogue(tmp_path: Path, url: str) -> str:
    path = tmp_path / "sources.yaml"
    path.write_text(
        "origins: {}\nsources:\n  weights_grag2021:\n    about: Grag2021\n    kind: weights\n"
        f"    at: ['{url}/tiny.pth']\n    form: files\n"
        "    files: {weights_grag2021/tiny.pth: ''}\n"
        "    licence: nonprofit\n    attribution: Them\n"
    )
    return str(path)


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file of the right form; the network behind the name is a small one here."""
    file = io.BytesIO()
    torch.save({"model": tiny_detector().network.state_dict()}, file)

    def read(files):
        ((where, data),) = files.items()
        found = published_weights.open_checkpoint(data, where)
        detector = tiny_detector(seed=1)
        published_weights.load_strictly(detector.network, found["model"], where)
        return detector

    monkeypatch.setitem(published_weights.PUBLISHED, "grag2021", read)
    return file.getvalue()


def test_fetched_converted_and_recorded_once(tmp_path: Path, checkpoint: bytes) -> None:
    with Server(files_handler({"/tiny.pth": checkpoint})) as server:
        settings = WeightsSettings(
            name="grag2021",
            output=str(tmp_path / "grag2021"),
            fetched=str(tmp_path / "fetched"),
            catalogue=catalogue(tmp_path, server.url),
        )
        run = weights(settings)
        assert run.results["sha256"] == {"weights_grag2021/tiny.pth": sha256(checkpoint)}
        assert weights(settings).state == "done"
    detector = load_detector(tmp_path / "grag2021")
    assert detector.spec.provenance["licence"] == "nonprofit"
    assert detector.spec.provenance["attribution"] == "Them"
    assert detector.spec.scope == published_scope("grag2021")
    pixels = np.full((32, 32, 3), 7, np.uint8)
    assert detector.logits([pixels]) == pytest.approx(tiny_detector().logits([pixels]))


def test_files_that_one_has_are_taken(tmp_path: Path, checkpoint: bytes) -> None:
    (tmp_path / "mine.pth").write_bytes(checkpoint)
    run = weights(
        WeightsSettings(
            name="grag2021", output=str(tmp_path / "out"), files=(str(tmp_path / "mine.pth"),)
        )
    )
    assert run.results["detector_hash"] == load_detector(tmp_path / "out").hash()


def test_what_cannot_be_had_says_which_file_goes_where(tmp_path: Path, monkeypatch) -> None:
    """One line with the names wanted, the page that has them, and the option that takes them."""
    given = {"output": str(tmp_path / "out"), "fetched": str(tmp_path / "fetched")}
    with Server(files_handler({})) as server:
        made = catalogue(tmp_path, server.url)
        with open(made, "a") as file:
            file.write("    page: https://example.org/detectors\n")
        with pytest.raises(JobFailed) as gone:
            weights(WeightsSettings(name="grag2021", catalogue=made, **given))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(UserError) as locked:
        weights(WeightsSettings(name="corvi2022", **given, overwrite=True))
    by_hand = "or fetch tiny.pth by hand from https://example.org/detectors and give it: --name "
    assert str(gone.value).endswith(f"; {by_hand}grag2021 --files tiny.pth")
    two = "Grag2021_latent/model_epoch_best.pth Grag2021_progan/model_epoch_best.pth"
    assert str(locked.value).endswith(f"and give them: --name corvi2022 --files {two}")
    assert "https://github.com/grip-unina/DMimageDetection" in str(locked.value)
    assert "\n" not in str(gone.value) + str(locked.value)


def test_lasted_and_its_anchors_go_together(tmp_path: Path) -> None:
    for given in ({"name": "lasted"}, {"name": "imaginet", "anchors": "a.txt"}):
        with pytest.raises(UserError, match="--anchors LIST and --root FOLDER go with lasted"):
            weights(WeightsSettings(output=str(tmp_path / "out"), **given))


def test_the_name_may_stand_alone(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(b"<!DOCTYPE html>")
    job = Path(__file__).parents[2] / "jobs/weights.py"
    given = ["imaginet", "--files", str(tmp_path / "odd.pt"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["weights.py", *given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(job), run_name="__main__")
    assert ended.value.code == 2
    assert "odd.pt: holds no weights" in capsys.readouterr().err
