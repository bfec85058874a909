"""A run that is refused before its work begins claims nothing and removes nothing, in every job."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from rayapp.config.yaml_files import read_yaml, validated
from rayapp.dataset.labels import Item, load_scheme, read_list
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, saved_scores, tiny_detector
from tests.perturb.sets import make_set

NOBODY = "127.0.0.1:9"  # RAY_ADDRESS of a cluster that is not there
FOREIGN = {"job": "x", "settings": {}, "inputs": {}, "code": "0", "counts": {}, "finished": "-"}
JOBS = (
    "annotate",
    "audit",
    "demo data",
    "embed",
    "evaluate",
    "pack",
    "perturb",
    "predict",
    "prune",
    "reconstruct",
    "train",
    "tune",
)

Made = tuple[Callable[[Any], object], type[JobSettings], dict[str, Any], dict[str, Any]]


def jobs(folder: Path) -> Iterator[Made]:
    """Each job: its function, settings, what it is given, and a change that makes another run."""
    from rayapp.annotate.settings import AnnotateSettings
    from rayapp.audit.settings import AuditSettings
    from rayapp.config.packaged import resource
    from rayapp.demo.settings import DemoDataSettings
    from rayapp.evaluate.embedding import EmbedSettings
    from rayapp.evaluate.settings import EvaluateSettings
    from rayapp.jobs.annotate import annotate
    from rayapp.jobs.audit import audit
    from rayapp.jobs.demo_data import build
    from rayapp.jobs.evaluate_embedding import embed
    from rayapp.jobs.evaluate_tables import evaluate
    from rayapp.jobs.pack import pack
    from rayapp.jobs.perturb import perturb
    from rayapp.jobs.predict import predict
    from rayapp.jobs.prune import prune
    from rayapp.jobs.reconstruct import reconstruct
    from rayapp.jobs.train import train
    from rayapp.jobs.tune import tune
    from rayapp.pack.settings import PackSettings
    from rayapp.perturb.settings import PerturbSettings
    from rayapp.predict.settings import PredictSettings
    from rayapp.prune.settings import PruneSettings
    from rayapp.reconstruct.settings import ReconstructSettings
    from rayapp.train.settings import TrainSettings
    from rayapp.tune.settings import TuneSettings

    listed = make_set(folder, 96)
    lines = listed.read_text().splitlines(keepends=True)
    lines[::4] = [line.replace("0,0,4,4", "1,0,1,1") for line in lines[::4]]  # a second generator
    listed.write_text("".join(lines))
    scheme = load_scheme("demo")
    items = read_list(listed, scheme).items
    detector = saved_detector(folder / "detector")
    (folder / "split/real").mkdir(parents=True)
    (folder / "split/fake").mkdir()
    for at, item in enumerate(items):
        os.link(
            folder / item.path,
            folder / "split" / ("real", "fake")[at % 2] / f"{at}{Path(item.path).suffix}",
        )
    logits = np.linspace(-1, 1, len(items))
    scores = saved_scores(folder / "scores", tiny_detector(), _plain(items), logits, scheme)
    common = {"annotations": [str(listed)], "root": str(folder), "scheme": "demo"}
    recipe = read_yaml(resource("configs", "demo"))[0]
    space = {"train.stage1.learning_rate": {"log_uniform": [0.001, 0.1]}}

    yield (
        annotate,
        AnnotateSettings,
        {"input": str(folder / "split"), "layout": "real,fake=synthetic"},
        {"seed": 1},
    )
    yield audit, AuditSettings, common, {"roles": {"test.txt": "train"}}
    yield build, DemoDataSettings, {"generator_steps": 1, "crops_per_photograph": 1}, {"seed": 1}
    yield embed, EmbedSettings, {"detector": detector, "root": str(folder)}, {"seed": 1}
    yield (
        evaluate,
        EvaluateSettings,
        {
            "detector": detector,
            "scores": scores,
            "annotations": str(listed),
            "scheme": "demo",
            "resamples": 100,
        },
        {"seed": 1},
    )
    yield pack, PackSettings, common, {"tile_px": 64}
    yield perturb, PerturbSettings, common, {"seed": 1}
    yield (
        predict,
        PredictSettings,
        {"detector": detector, "input": str(folder / "images")},
        {"view": "five"},
    )
    yield prune, PruneSettings, common, {"annotations": [str(listed), str(listed)]}
    (folder / "own.py").write_text("def reconstruct(images):\n    return images\n")
    yield (
        reconstruct,
        ReconstructSettings,
        common | {"autoencoder": str(folder / "own.py"), "side": 32},
        {"seed": 1},
    )
    yield train, TrainSettings, recipe | common, {"seed": 1}
    yield tune, TuneSettings, common | {"space": space}, {"seed": 1}


def _plain(items: list[Item]) -> list[Item]:
    return [Item(item.path, item.path, item.labels) for item in items]


def attempt(made: Made, output: Path, **changes: Any) -> list[str]:
    """How it ended, and what lies in its output then, were it an empty folder."""
    function, model, given, _ = made
    if function.__name__ == "embed":
        function = _embedding(function)
    try:
        function(validated(model, given | {"output": str(output)} | changes, str))
    except (UserError, JobFailed) as error:
        said = f"{type(error).__name__}: {error}"
    left = sorted(stat.key for stat in open_store(str(output)).list())
    return [said, *(left or ["an empty folder"] * output.exists())]


def _embedding(embed: Any) -> Callable[[Any], object]:
    return lambda settings: embed(settings, ["images/0000.jpg"])


def main(folder: Path) -> None:
    """Each job thrice where no cluster answers: anew, otherwise, and over another run's output."""
    found = {}
    for name, made in zip(JOBS, jobs(folder / "data"), strict=True):
        output = folder / "out" / name
        anew = [attempt(made, output), attempt(made, output, **made[3])]
        output.mkdir(parents=True, exist_ok=True)
        (output / "run.json").write_text(json.dumps(FOREIGN))
        (output / "old.csv").write_text("years of work")
        found[name] = [*anew, attempt(made, output, overwrite=True)]
    print(json.dumps(found))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """What `main` finds, in a process that has no Ray."""
    folder = tmp_path_factory.mktemp("refused")
    done = subprocess.run(
        [sys.executable, "-m", "tests.jobs.test_refused", str(folder)],
        env=os.environ | {"RAY_ADDRESS": NOBODY},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("job", JOBS)
def test_where_no_cluster_answers_nothing_is_claimed_or_removed(
    ended: dict[str, list[list[str]]], job: str
) -> None:
    first, otherwise, over = ended[job]
    refusal = f"JobFailed: no Ray cluster answers at RAY_ADDRESS={NOBODY}"
    assert first == otherwise == [refusal]
    assert over == [refusal, "old.csv", "run.json"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Each job; none of them changes what it is given."""
    return dict(zip(JOBS, jobs(tmp_path_factory.mktemp("made") / "data"), strict=True))


@pytest.mark.ray
@pytest.mark.parametrize(
    ("job", "asks"),
    [
        ("predict", {"gpus_per_worker": 3.0}),
        ("predict", {"threads": 64}),
        ("embed", {"gpus_per_worker": 3.0}),
        ("train", {"num_workers": 8}),
        ("tune", {"cpus_per_trial": 64}),
    ],
)
def test_what_asks_for_more_than_there_is_claims_nothing(
    made: dict[str, Made], tmp_path: Path, job: str, asks: dict[str, Any]
) -> None:
    output = tmp_path / "out"
    for changes in ({}, made[job][3]):
        said, *left = attempt(made[job], output, wait_s=0, **asks, **changes)
        assert "this cluster has at most" in said
        assert left == []


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_what_only_the_workers_find_wrong_claims_nothing(
    made: dict[str, Made], tmp_path: Path
) -> None:
    (tmp_path / "wrong").mkdir()
    said, *left = attempt(made["train"], tmp_path / "train", root=str(tmp_path / "wrong"))
    assert "can't be read" in said
    assert left == []
    own = tmp_path / "own.py"
    own.write_text("import a_module_that_is_not_there\n\ndef predict(images): ...\n")
    said, *left = attempt(made["predict"], tmp_path / "predict", detector=str(own))
    assert "a_module_that_is_not_there" in said
    assert left == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
