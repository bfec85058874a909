"""The pipeline before it runs: settings of all steps checked, what it will take, what is done."""

from pathlib import Path
from typing import Any

import pytest

from rayapp.benchmark.settings import BenchmarkSettings
from rayapp.config.command_line import parse_settings
from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_yaml
from rayapp.demo.settings import DemoSettings
from rayapp.jobs.benchmark import Places, exit_code, steps
from rayapp.jobs.benchmark_estimate import estimate, format_estimate
from rayapp.run.record import Run
from rayapp.storage.uris import open_store


def settings(folder: Path, **changes: Any) -> BenchmarkSettings:
    """The tiny pipeline on a few lists under `folder`; nothing else is there."""
    lists = folder / "images/lists"
    lists.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 30), ("head", 20), ("calibration", 6), ("test", 14)):
        lines = [
            f"images/{name}-{at}.png,{at % 2},0,{2 if at % 2 else 4},{2 if at % 2 else 4}\n"
            for at in range(count)
        ]
        (lists / f"{name}.txt").write_text("".join(lines))
    wanted, _ = read_yaml(resource("configs", "pipeline-tiny"))
    wanted |= {"root": str(folder / "images"), "output": str(folder / "out"), "perturb": {}}
    return BenchmarkSettings.model_validate(wanted | changes)


def test_what_one_step_writes_is_what_the_next_one_reads(tmp_path: Path):
    at = Places(settings(tmp_path))
    made: dict[str, Any] = {one.name: one.settings(at) for one in steps(at.settings)}
    assert list(made) == ["perturb", "train", "predict", "calibrate", "evaluate", "report"]
    assert made["perturb"].annotations == (at.lists.calibration, *at.lists.test)
    assert made["predict"].input == f"{made['perturb'].output}/manifest.parquet"
    assert made["predict"].detector == f"{made['train'].output}/detector"
    assert made["calibrate"].output == at.at("detector")
    assert str(at.perturbed(at.lists.test[0])).endswith("out/perturbed/lists/test.txt")
    assert made["train"].stage1.epochs == 1  # changed
    assert made["train"].stage1.batch_size == 48  # of the recipe


def test_the_plan_counts_the_lists_and_says_what_is_done(tmp_path: Path):
    asked = settings(tmp_path)
    found = {one.step.name: one for one in estimate(asked)}
    assert found["perturb"].work.images == 20
    assert found["train"].work.images == 50
    assert {one.state for one in found.values()} == {"to do"}
    open_store(asked.output).put("perturbed/run.json", b"{}")
    open_store(asked.output).put("train/started.json", b"{}")
    states = {one.step.name: one.state for one in estimate(asked)}
    assert states["perturb"] == "done"
    assert states["train"] == "begun"
    table = format_estimate(estimate(asked), asked).splitlines()
    assert len(table) == len(found) + 3


def test_tiles_and_downloads_are_steps_where_asked_for(tmp_path: Path):
    asked = settings(tmp_path, tiles=True, sources=["coco"], list_sources=["annotations"])
    at = Places(asked)
    made: dict[str, Any] = {one.name: one.settings(at) for one in steps(asked)}
    assert list(made)[:5] == ["lists", "download", "prune", "perturb", "pack"]
    assert made["train"].root == made["pack"].output
    assert made["lists"].annotations == []
    assert len(made["download"].annotations) == 4
    open_store(at.root).put("run.json", b'{"settings": {"sources": ["annotations"]}}')
    assert [one.state for one in estimate(asked)][:3] == ["done", "to do", "to do"]
    work = {one.step.name: one.work for one in estimate(asked)}
    assert work["download"].images == 15_000  # what the catalogue says
    assert work["download"].read_bytes == 15_000 * 160_000


def test_the_tiny_pipeline_reads_what_the_tiny_demo_writes():
    wanted, _ = read_yaml(resource("configs", "pipeline-tiny"))
    demo = Path(DemoSettings(tiny=True).output)
    assert demo.parts[-2:] == Path(wanted["root"]).parts[-3:-1]
    assert wanted["perturb"]["manifest"] == f"{wanted['root']}/manifest.parquet"


def test_the_shipped_recipes_hold_together(tmp_path: Path):
    arguments = ["--config", "imaginet", "--output", str(tmp_path / "out")]
    asked = parse_settings(BenchmarkSettings, arguments, "pipeline.py")
    work = {one.step.name: one.work for one in estimate(asked)}
    assert work["download"].images == 200_000
    assert work["train"].gpu_s > 8 * 3600
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"nonsense": 1}}, "settings of train .*unknown key 'nonsense'"),
        ({"train": {"stage1": {"epochs": -1}}}, "settings of train .*stage1.epochs: .*got -1"),
        ({"perturb": {"draws": "x"}}, "settings of perturb: draws"),
        ({"evaluate": {"resamples": 1}}, "settings of evaluate: resamples"),
        ({"recipe": "none"}, "none: no such file"),
        (
            {"lists": {"train": ["gone.txt"], "calibration": "c", "test": ["t"]}},
            "gone.txt: no such",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], said: str
):
    with pytest.raises(UserError, match=said):
        estimate(settings(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_misses_of_any_step_show_in_the_exit_code(tmp_path: Path):
    clean = Run("a", open_store(tmp_path), {}, "done", {"counts": {"in": 3, "failed": 0}})
    missed = Run("b", open_store(tmp_path), {}, "done", {"counts": {"unreadable": 2}})
    assert exit_code({"a": clean}) == 0
    assert exit_code({"a": clean, "b": missed}) == 3
