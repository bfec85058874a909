"""The README's "Own data" on sets as they are published, typed in a shell of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rayapp.dataset.labels import load_scheme, read_list
from tests.annotate import published

ROOT = Path(__file__).resolve().parents[2]
SETS = ("genimage", "forensynths", "cifake")
pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """The folder in which the script was run, and what it printed."""
    folder = tmp_path_factory.mktemp("typed")
    for name in SETS:
        getattr(published, name)(folder / name)
    (folder / "photographs/real").mkdir(parents=True)
    for number, pixels in enumerate(published.pictures()[-12:]):
        Image.fromarray(pixels).save(folder / f"photographs/real/{number}.png")
    done = subprocess.run(
        ["bash", str(ROOT / "tests/drills/own_data.sh")],
        cwd=folder,
        env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    return folder, done.stdout


def test_every_command_of_the_chain_ends_well(typed):
    folder, said = typed
    codes = re.findall(r"^== exit (\d+) (\w+) (\w+)", said, re.MULTILINE)
    assert len(codes) == 7 * len(SETS) + 2
    # The audit names what the outside of files tells: GenImage's photographs are JPEG, the others
    # PNG, and up-sampled pictures make small files.
    bad = [found for found in codes if found[0] != "0" and found[1] != "audit"]
    assert not bad, said
    wrong = re.findall("^wrong: (.*)", said, re.MULTILINE)
    assert any(line.startswith("container alone tells origin") for line in wrong)
    assert all("alone tells origin" in line or "all the outside" in line for line in wrong), wrong
    for name in SETS:
        for made in (
            "audit/audit.html",
            "train/detector/detector.json",
            "detector/detector.json",
            "report/report.html",
            "scores/gallery.html",
        ):
            assert (folder / "runs" / name / made).stat().st_size


def lists_of(folder, name):
    made = folder / "runs" / name / "annotated"
    scheme = load_scheme(str(made / "scheme.yaml"))
    found = {}
    for path in sorted(made.glob("lists/*.txt")):
        items = read_list(path, scheme).items
        found[path.stem] = {
            item.path: {
                c: scheme.names(c)[code]
                for c, code in zip(scheme.columns, item.labels, strict=True)
            }
            for item in items
        }
    return found


def test_a_published_split_is_kept_and_its_labels_are_read(typed):
    folder, said = typed
    assert "read as --layout '*/*/nature,GENERATOR/*/ai'" in said
    assert "split kept: val → test 16" in said
    lists = lists_of(folder, "genimage")
    assert all("/val/" in path for path in lists["test"])
    assert len(lists["test"]) == 16
    assert sum(len(lists[name]) for name in ("train", "head", "calibration")) == 44
    assert {labels["generator"] for labels in lists["test-ADM"].values()} == {"ADM", "real"}
    for name in ("train", "head", "calibration", "test"):
        for path, labels in lists[name].items():
            maker, _, word, _ = path.split("/")
            assert labels == {
                "origin": "real" if word == "nature" else "synthetic",
                "generator": "real" if word == "nature" else maker,
            }
    lists = lists_of(folder, "cifake")
    assert sorted(lists["test"]) == sorted(
        f"test/{word}/{number:03}.jpg" for word in ("REAL", "FAKE") for number in range(8)
    )


def test_forensynths_classes_are_content_and_no_split(typed):
    folder, _ = typed
    lists = lists_of(folder, "forensynths")
    parts = [lists[name] for name in ("train", "head", "calibration", "test")]
    assert sum(map(len, parts)) == 60
    every = {path: labels for part in parts for path, labels in part.items()}
    assert every["progan/train/1_fake/000.png"] == {
        "origin": "synthetic",
        "content": "train",
        "generator": "progan",
    }
    assert every["biggan/0_real/000.png"] == {
        "origin": "real",
        "content": "unknown",
        "generator": "real",
    }
    assert all(
        {labels["origin"] for labels in part.values()} == {"real", "synthetic"} for part in parts
    )


def test_photographs_alone_are_a_test_list(typed):
    folder, said = typed
    assert "all images are real: a test list alone" in said
    lists = lists_of(folder, "photographs")
    assert list(lists) == ["test"]
    assert len(lists["test"]) == 12
    assert (folder / "runs/photographs/evaluation/metrics.json").exists()
