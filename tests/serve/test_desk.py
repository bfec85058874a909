"""The desk: what it counts is told once, and put down as soon as it can be."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.serve.desk import DeskSettings
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector
from tests.serve.services import HereScoring, serving


def until(true: Callable[[], Any]) -> bool:
    for _ in range(200):
        if true():
            return True
        time.sleep(0.05)
    return False


def calibrated(folder: Path, bias: float) -> str:
    detector = tiny_detector()
    fit = Calibration(
        method="platt",
        parameters={"slope": 1.0, "bias": bias},
        n=80,
        items_hash="0" * 64,
        detector_hash=detector.hash(),
        preprocessing_hash=detector.spec.preprocessing.hash,
    )
    spec = detector.spec.model_copy(update={"calibration": fit})
    save_detector(Detector(detector.network, spec), open_store(folder))
    return str(folder)


def test_two_calibrations_of_a_detector_are_no_sample_twice(tmp_path: Path) -> None:
    uris = {name: calibrated(tmp_path / name, bias) for name, bias in (("a", 0.5), ("b", -0.5))}
    scoring = HereScoring(**uris)

    def samples() -> dict[Any, float]:
        families = text_string_to_metric_families(requests.get(url, timeout=5).text)
        every = [one for family in families for one in family.samples]
        found = {(one.name, *sorted(one.labels.items())): one.value for one in every}
        assert len(found) == len(every)
        return found

    with serving(scoring, DeskSettings(str(tmp_path / "out"), uris)) as address:
        url = f"{address}/metrics"
        for name in uris:
            asked = {"params": {"detector": name}, "data": b"none", "timeout": 30}
            assert requests.post(f"{address}/v1/score", **asked).ok
        name = "imaginet_verdicts_total"
        assert until(lambda: sum(n for key, n in samples().items() if key[0] == name) == 2)


def test_what_could_not_be_put_down_is_put_down_later(
    scoring: HereScoring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayapp.serve.desk._EVERY_S", 0.05)
    (tmp_path / "out").mkdir()
    in_the_way, kept = tmp_path / "out/traffic", tmp_path / "kept" / "ab" / f"ab{'0' * 62}"
    in_the_way.write_text("no folder")
    kept.parent.mkdir(parents=True)
    desk = DeskSettings(str(tmp_path / "out"), scoring.uris, keep=str(tmp_path / "kept"))
    with serving(scoring, desk) as address:
        assert requests.post(f"{address}/v1/score", data=b"none", timeout=30).ok
        kept.touch()
        os.utime(kept, (0, 0))
        assert until(lambda: not kept.exists())  # removed in time all the same
        assert until(lambda: "imaginet_verdicts_total{" in requests.get(f"{address}/metrics").text)
        time.sleep(0.2)  # it was tried
        in_the_way.unlink()
        assert until(lambda: list(in_the_way.glob("*.json")))
