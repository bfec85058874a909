import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rayapp.config.errors import UserError
from rayapp.jobs.train import train
from rayapp.models.folder import load_detector
from rayapp.storage.store import LocalStore
from rayapp.train.engine import Engine
from rayapp.train.loop import newest_state, train_alone
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings

Tiny = Callable[..., TrainSettings]


class Cut(Exception):
    """What a search raises in a trial that it stops."""


def test_a_call_that_is_cut_goes_on_and_ends_with_the_engine_s_weights(
    tiny: Tiny, data: Path
) -> None:
    settings = tiny(num_workers=0, stage2__epochs=1, validation=[str(data / "all.txt")])
    describe: list[Mapping[str, Any]] = []

    def on_epoch(figures: Mapping[str, Any]) -> None:
        describe.append(figures)
        if len(describe) == 1:
            raise Cut

    with pytest.raises(Cut):
        train_alone(settings, on_epoch)
    run = train_alone(settings.model_copy(update={"num_workers": 2}), on_epoch)  # elsewhere

    assert run.state == "resumed"
    assert [(f["stage"], f["epoch"]) for f in describe] == [
        ("stage1", 1),
        ("stage1", 2),
        ("stage2", 1),
    ]
    engine = Engine(make_job(settings)[0])
    list(engine.epochs())
    detector = load_detector(Path(settings.output) / run.results["detector"])
    for name, tensor in engine.network.state_dict().items():
        assert torch.equal(tensor, detector.network.state_dict()[name]), name
    assert run.results["validation_loss"] == describe[-1]["validation_loss"]
    assert not (Path(settings.output) / "state.pt").exists()
    assert train_alone(settings, on_epoch).state == "done"
    assert len(describe) == 3


def test_a_probe_keeps_its_state_now_and_then_and_goes_on_from_there(
    tiny: Tiny, tmp_path: Path
) -> None:
    """To keep the state of a large backbone takes longer than an epoch on kept features."""
    settings = tiny(
        num_workers=0, stage1__epochs=0, stage2__epochs=6, feature_cache=str(tmp_path / "kept")
    )
    states: list[int] = []

    def on_epoch(figures: Mapping[str, Any]) -> None:
        states.append(Path(settings.output, "state.pt").stat().st_mtime_ns)
        if figures["epoch"] == 4 and len(states) == 4:
            raise Cut

    with pytest.raises(Cut):
        train_alone(settings, on_epoch)
    assert len(set(states)) == 1  # that of the first epoch
    run = train_alone(settings, on_epoch)
    assert run.state == "resumed"
    engine = Engine(make_job(settings)[0])
    expected = [figures["loss"] for figures in engine.epochs()]
    assert len(states) == 4 + 5  # epochs 2 to 4 once more
    metrics = Path(settings.output, "metrics.csv").read_text().splitlines()
    at = metrics[0].split(",").index("loss")
    assert [float(line.split(",")[at]) for line in metrics[1:]] == pytest.approx(expected)
    detector = load_detector(Path(settings.output) / run.results["detector"])
    for name, tensor in engine.network.state_dict().items():
        assert torch.equal(tensor, detector.network.state_dict()[name]), name


def test_the_detector_says_what_it_was_trained_on(tiny: Tiny, data: Path) -> None:
    settings = tiny(num_workers=0, about="a detector of noise", stage1__epochs=1, stage2__epochs=1)
    run = train_alone(settings)
    assert run.state == "new"
    scope = load_detector(run.store.uri("detector")).spec.scope
    assert scope.about == "a detector of noise"
    assert scope.trained is not None
    assert scope.trained.lists == (str(data / "all.txt"),)
    # Both stages read the list: each of its 44 images counts once.
    assert (scope.trained.num_real, scope.trained.num_synthetic) == (15, 29)
    assert scope.trained.generators == ("nearest + convolution", "pixel shuffle")
    assert scope.trained.date[:10] == run.found["finished"][:10]
    assert scope.measured == ()


def test_one_worker_on_a_cpu_needs_no_ray(tiny: Tiny, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    settings = tiny(num_workers=1, stage1__epochs=1, stage2__epochs=1, output=str(tmp_path / "out"))
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    code = (
        "import sys\n"
        "from rayapp.config.yaml_files import parse_yaml\n"
        "from rayapp.jobs.train import train\n"
        "from rayapp.train.settings import TrainSettings\n"
        "run = train(parse_yaml(sys.argv[1], TrainSettings))\n"
        "print(run.state, 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "RAY_ADDRESS": ""},
    )
    assert done.stdout.split() == ["new", "False"]
    assert train_alone(settings).state == "done"


def test_a_state_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert newest_state(store) is None
    states = {}
    for key in ("state.pt", "checkpoints/one/state.pt"):
        whole = io.BytesIO()
        torch.save({"step": len(states)}, whole)
        states[key] = whole.getvalue()
        store.put(key, states[key])
    os.utime(tmp_path / "state.pt", (1, 1))
    assert newest_state(store) == states["checkpoints/one/state.pt"]
    store.put("checkpoints/one/state.pt", states["checkpoints/one/state.pt"][:-9])
    assert newest_state(store) == states["state.pt"]


def test_a_detector_that_is_gone_is_trained_again(
    tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny(num_workers=0, stage1__epochs=1, stage2__epochs=1)
    first = train(settings)
    weights = Path(settings.output, "detector/model.safetensors")
    content = weights.read_bytes()
    weights.unlink()
    capsys.readouterr()
    again = train(settings)
    assert weights.read_bytes() == content
    assert again.results == first.results
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{weights} is gone: train is done again"
    assert said[1].startswith("train: 0 of ")
    assert train(settings).state == "done"


def test_a_second_head_on_an_encoder_that_was_trained_before(tiny: Tiny, tmp_path: Path) -> None:
    first = train_alone(tiny(stage1__epochs=1, stage2__epochs=1))
    encoder = first.store.uri("detector")
    settings = tiny(
        output=str(tmp_path / "second"), encoder=encoder, target="model", stage1__epochs=0
    )
    second = load_detector(train_alone(settings).store.uri("detector")).network
    assert second.head.output.out_features == 4
    for name, tensor in load_detector(encoder).network.encoder.state_dict().items():
        assert torch.equal(tensor, second.encoder.state_dict()[name]), name
    other = {**settings.architecture.model_dump(), "tap_depths": [0.9]}
    with pytest.raises(UserError, match=r"its tap_depths is \(0.5,\), architecture says \(0.9,\)"):
        make_job(tiny(encoder=encoder, architecture=other))
    with pytest.raises(UserError, match="encoder and pretrained both say where to start"):
        tiny(encoder=encoder, pretrained=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="this machine has no GPU"):
        train_alone(tiny(num_workers=0, gpus_per_worker=1))
