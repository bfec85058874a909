"""The demo's second part: real generators, and a published detector adapted, from a double."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import JobFailed, UserError
from rayapp.demo.settings import PARTNERS, REAL, DemoSettings
from rayapp.jobs.demo import note, run_demo
from rayapp.models import published_weights
from rayapp.models.autoencoders.taesd import Taesd
from rayapp.models.networks import build_scorer
from tests.doubles.server import Server, files_handler
from tests.pictures import saved, smooth
from tests.transforms.conftest import picture

pytestmark = pytest.mark.timeout(600)  # the first to ask for a demo waits for it
_SMALL = {"img_size": 64, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}


def few(folder: Path) -> str:
    """Six photographs of two sources, six images of two families, one of which is cut off."""
    for at in range(6):
        for origin, place in enumerate((f"real/source{at % 2}", f"synthetic/family{at % 2}")):
            file = folder / place / f"{at}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = picture(48, 60 + at, seed=2 * at + origin)
            file.write_bytes(saved(Image.fromarray(pixels), "PNG"))
    whole = (folder / "synthetic/family1/5.png").read_bytes()
    (folder / "synthetic/family1/5.png").write_bytes(whole[: len(whole) // 2])
    return str(folder)


def summary(page: Path) -> str:
    """The page's first paragraphs, as they are read."""
    text = page.read_text()
    head = text[text.index("<h1>") : text.index("<section")]
    return " ".join(re.sub("<[^>]*>", " ", head).split()).replace("&#39;", "'")


@pytest.mark.ray
def test_real_generators_are_the_second_part_of_the_page(demo: Path, tmp_path: Path) -> None:
    said = summary(demo / "report.html")
    assert "generators from photographs? Every figure on this page speaks of toys" in said
    assert "make demo REALSET=folder" in said
    before = {path: path.stat().st_mtime_ns for path in (demo / "scores").rglob("*")}
    given = DemoSettings(output=str(demo), tiny=True, realset=few(tmp_path / "real-set"))
    metrics = run_demo(given)
    assert {path: path.stat().st_mtime_ns for path in (demo / "scores").rglob("*")} == before
    assert metrics["num_real_images"] == 11
    (missed,) = metrics["not_judged"]
    assert missed.startswith("synthetic/family1/5.png: corrupt or truncated")
    assert 0 <= metrics["real_roc_auc"] <= 1
    low, high = metrics["real_false_positive_rate_interval"]
    assert 0 <= low <= metrics["real_false_positive_rate"] <= high <= 1
    said = summary(demo / "report.html")
    assert "Only the figures of 'Real photographs, real generators' speak of real" in said
    page = (demo / "report.html").read_text()
    section = page[page.index("<h2>Real photographs, real generators</h2>") :]
    assert "What to expect of the detector on such images: ROC AUC" in section
    for word in ("6 real images synthetic", "family0", "family1"):
        assert word in section
    marks = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    assert run_demo(given) == metrics
    again = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    changed = {path.relative_to(demo) for path in again if again[path] != marks.get(path)}
    tops = {path.parts[0] for path in changed}
    assert tops == {"metrics.json", "report.html", "real"}  # there the broken image is tried again


@pytest.mark.ray
def test_photographs_alone_show_false_positives(demo: Path, tmp_path: Path) -> None:
    few(tmp_path / "set")
    metrics = run_demo(
        DemoSettings(output=str(demo), tiny=True, realset=str(tmp_path / "set/real"))
    )
    assert metrics["num_real_images"] == 6
    assert "real_roc_auc" not in metrics
    assert 0 <= metrics["real_false_positive_rate"] <= 1


@pytest.mark.ray
def test_the_real_set_at_hand(demo: Path, tmp_path: Path, realset: Path) -> None:
    """Three images of each source and family, in links."""
    for folder in sorted(realset.glob("*/*/")):
        for file in sorted(folder.iterdir())[:3]:
            link = tmp_path / file.relative_to(realset)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    metrics = run_demo(DemoSettings(output=str(demo), tiny=True, realset=str(tmp_path)))
    num = sum(min(3, len(list(folder.iterdir()))) for folder in realset.glob("*/*/"))
    assert metrics["num_real_images"] == num
    assert metrics["real_roc_auc"] < 0.75, "a detector of toys tells no real generators"


def test_a_folder_that_tells_no_origin_ends_before_the_minutes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(saved(smooth(20, 20), "PNG"))
    out = tmp_path / "out"
    with pytest.raises(UserError, match="don't tell which images are real"):
        run_demo(DemoSettings(output=str(out), tiny=True, realset=str(tmp_path / "set")))
    assert not list(out.rglob("*.json"))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server with a small network of commfor's layout and an autoencoder; its catalogue."""
    torch.manual_seed(0)
    architecture, seen = published_weights.LAYOUTS["commfor"]
    small = architecture.model_copy(update={"options": _SMALL})
    layout = (small, seen.model_copy(update={"size": 64, "resize_to": 72}))
    monkeypatch.setitem(published_weights.LAYOUTS, "commfor", layout)
    network = build_scorer(small)
    vit = {f"vit.{k}": v for k, v in network.encoder.backbone.model.state_dict().items()}
    vit |= {f"vit.head.{k}": v for k, v in network.head.output.state_dict().items()}
    autoencoder = Taesd(4, middle_blocks=False)
    files = {"/commfor.safetensors": safetensors.torch.save(vit)}
    for part in ("encoder", "decoder"):
        data = safetensors.torch.save(getattr(autoencoder, part).state_dict())
        files[f"/taesd_{part}.safetensors"] = data
    with Server(files_handler(files)) as server:
        common = {"kind": "weights", "form": "files", "licence": "MIT", "attribution": "Them"}
        sources = {
            "weights_commfor": {
                "about": "a small network",
                "at": [f"{server.url}/commfor.safetensors"],
                "files": {"weights_commfor/commfor.safetensors": ""},
            },
            "autoencoder_taesd": {
                "about": "an autoencoder",
                "at": [f"{server.url}/{{name}}"],
                "paths": {"autoencoder_taesd/": ""},
                "files": {
                    f"autoencoder_taesd/taesd_{part}.safetensors": ""
                    for part in ("encoder", "decoder")
                },
            },
        }
        book = {"origins": {}, "sources": {name: one | common for name, one in sources.items()}}
        catalogue = tmp_path / "sources.yaml"
        catalogue.write_text(yaml.safe_dump(book))
        yield server, str(catalogue)


@pytest.mark.ray
def test_three_detectors_stand_side_by_side(
    demo: Path, tmp_path: Path, web: tuple[Server, str]
) -> None:
    server, catalogue = web
    given = DemoSettings(
        output=str(demo),
        tiny=True,
        web=True,
        catalogue=catalogue,
        fetched=str(tmp_path / "fetched"),
        realset=few(tmp_path / "set"),
    )
    metrics = run_demo(given)
    for part in ("partners", "real"):
        for who in ("", "published_", "adapted_"):
            assert 0 <= metrics[f"{part}_{who}roc_auc"] <= 1
    page = (demo / "report.html").read_text()
    for name in ("Real photographs, real generators", "Partners by taesd"):
        section = page[page.index(f"<h2>{name}</h2>") :].partition("</section>")[0]
        for detector in ("the detector", "Community Forensics", "Community Forensics, adapted"):
            assert f"What to expect of {detector} on such images" in section
    said = summary(demo / "report.html")
    assert "told apart" not in said, "on the first test set no other detector was measured"
    compared = page[page.index("<h2>Detectors compared</h2>") :].partition("</section>")[0]
    assert "Partners by taesd" in compared
    assert "Real photographs, real generators" in compared
    adapted = load_detector(demo / "adapted")
    published = load_detector(demo / "published")
    assert adapted.spec.calibration is not None
    assert "blind to GANs" in adapted.scope_line
    assert adapted.hash() != published.hash()
    names = dict(published.network.encoder.state_dict())
    assert all(torch.equal(v, names[k]) for k, v in adapted.network.encoder.state_dict().items())
    listed = json.loads((demo / "adapted-train/run.json").read_text())["settings"]["annotations"]
    assert [Path(uri).name for uri in listed] == ["train.txt", "head.txt"], "no test photograph"
    server.reset_counters()
    assert run_demo(given) == metrics
    assert server.bytes_sent == 0, "what was fetched is not fetched again"


def test_without_a_network_one_line_says_what_it_needs(
    tmp_path: Path, web: tuple[Server, str]
) -> None:
    server, catalogue = web
    server.handler = files_handler({})
    given = {"catalogue": catalogue, "fetched": str(tmp_path / "fetched"), "web": True}
    out = tmp_path / "out"
    with pytest.raises(JobFailed) as failed:
        run_demo(DemoSettings(output=str(out), tiny=True, **given))
    said = str(failed.value)
    assert said.startswith("--web needs the network once, for Community Forensics (90 MB) and ")
    assert said.endswith("; without one leave --web out")
    assert "\n" not in said
    assert not (out / "data").exists(), "nothing was done before"


def test_the_first_sentence_names_what_speaks_of_toys() -> None:
    for more in ({}, {"web": True}, {"realset": "x"}, {"realset": "x", "web": True}):
        first = note(DemoSettings(**more)).partition(". ")[0]
        assert " speak of toys: " in first.replace("speaks", "speak")
        assert (REAL in first) == ("realset" in more)
        assert (PARTNERS in first) == ("web" in more)
