"""The functions and files that one image passes from `jobs/predict.py` to its row.

python benchmarks/walk.py

A real run of predict on one picture (noise) is watched by Python's profiler. A function counts if
it is given the image in one of its forms (the settings that name it, its row, its bytes, the
opened image, pixels, views, logits) and hands it on: it returns it in the same or the next form,
or calls a function that does. The chain of calls that leads to the row's work counts, then what
that work does until the row is done. Left out are functions that only look at the image and give
back a fact (its hash, its orientation), functions inside of functions, and the layers of the
network, which are the detector's own. The last line is JSON: `functions` and `files`.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from rayapp.config.command_line import parse_settings
from rayapp.config.settings import Settings
from rayapp.dataset.images import DecodedImage
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.storage.uris import open_store

ROOT = Path(__file__).resolve().parents[1]
OURS = (f"{ROOT}/rayapp/", f"{ROOT}/jobs/")  # not an environment that lies in the checkout
WORK = "PredictRows.batch"  # what makes the row
Place = tuple[str, str]  # file, function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same; it takes seconds anyway")
    parser.parse_args()
    places = walk()
    for file, function in places:
        print(f"{file:<38} {function}")
    files = len({file for file, _ in places})
    print(json.dumps({"functions": len(places), "files": files}))


def walk() -> list[Place]:
    """File and function of each station of an image, in the order in which it comes to them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = folder / "picture.png"
        pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(picture)
        _save_detector(folder / "detector")
        run = _predict(folder, picture)
        watcher = _Watcher(picture)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            watcher.watch(run)
    return watcher.stations()


def _save_detector(folder: Path) -> None:
    """A small network with random weights that sees 256-px views."""
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2}
    architecture = Architecture(
        backbone="highpass-small", options=options, head=HeadSettings(hidden=0)
    )
    network = build_network(architecture).eval()
    spec = DetectorSpec(
        architecture=architecture,
        strides=network.encoder.backbone.strides(),
        preprocessing=Preprocessing(size=256),
    )
    save_detector(Detector(network, spec), open_store(folder))


def _predict(folder: Path, picture: Path) -> Callable[[], object]:
    """The job as its script runs it, with its imports done."""
    importlib.import_module("rayapp.jobs.predict")
    script = ROOT / "jobs/predict.py"
    spec = importlib.util.spec_from_file_location("predict_script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = {"detector": folder / "detector", "input": picture, "output": folder / "out"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    settings = parse_settings(module.PredictSettings, [*arguments, "--gallery", "0"], "predict")
    return lambda: module.job(settings)


@dataclass
class _Call:
    """A call of a function of the package that has not returned yet."""

    place: Place
    given: bool
    handed_on: bool = False
    began: int = 0


@dataclass
class _Watcher:
    """A profiler of all threads: which calls are given the image and hand it on."""

    picture: Path
    _open: dict[int, list[_Call]] = field(default_factory=dict)
    _found: dict[Place, int] = field(default_factory=dict)
    _number: int = 0
    _at_work: bool = False
    _done: bool = False

    def watch(self, run: Callable[[], object]) -> None:
        """Run it, watched."""
        self._data = self.picture.read_bytes()
        threading.setprofile(self._event)
        sys.setprofile(self._event)
        try:
            run()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def stations(self) -> list[Place]:
        """What was found, in the order of the first calls."""
        return sorted(self._found, key=lambda place: self._found[place])

    def _event(self, frame: FrameType, event: str, value: Any) -> None:
        file = frame.f_code.co_filename
        if event not in ("call", "return") or not file.startswith(OURS):
            return
        place = (str(Path(file).relative_to(ROOT)), frame.f_code.co_qualname)
        calls = self._open.setdefault(threading.get_ident(), [])
        if event == "call":
            self._at_work |= place[1] == WORK
            self._number += 1
            calls.append(_Call(place, self._is_given(frame), began=self._number))
        elif calls:
            self._ended(calls.pop(), calls, value)

    def _ended(self, call: _Call, outer: list[_Call], value: Any) -> None:
        name = call.place[1]
        in_time = self._at_work and not self._done
        hands_on = call.handed_on or (in_time and self._holds(value)) or name == WORK
        if call.given and hands_on and "<" not in name:
            self._found[call.place] = min(call.began, self._found.get(call.place, call.began))
        if hands_on and (call.given or call.handed_on) and outer:
            outer[-1].handed_on = True
        self._done |= name == WORK

    def _is_given(self, frame: FrameType) -> bool:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals.get(name) for name in names]
        if any(isinstance(value, torch.nn.Module) for value in values[:1]):
            return False  # a layer of the network
        return any(self._holds(value) for value in values)

    def _holds(self, value: Any, depth: int = 0) -> bool:
        """Whether a value is the image in one of its forms, or holds one."""
        if isinstance(value, str):
            return value in (str(self.picture), self.picture.name)
        if isinstance(value, bytes):
            return value == self._data
        if isinstance(value, Image.Image | DecodedImage):
            return True
        if isinstance(value, np.ndarray | torch.Tensor):
            return value.ndim >= 2
        if isinstance(value, Settings):
            return self._holds(getattr(value, "input", None))
        if isinstance(value, pa.Table):
            return "path" in value.column_names and self.picture.name in value["path"].to_pylist()
        if isinstance(value, dict):
            return self._holds(value.get("path")) or "logit" in value
        if isinstance(value, list | tuple) and depth < 3:
            is_logits = bool(value) and all(isinstance(one, float) for one in value)
            return is_logits or any(self._holds(one, depth + 1) for one in value)
        return False


if __name__ == "__main__":
    main()
