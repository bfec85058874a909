"""The service answers what predict writes: row by row, over awkward files and photographs."""

import base64
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from rayapp.jobs.predict import predict
from rayapp.predict.settings import PredictSettings
from rayapp.serve.answers import COLUMNS

AT_ONCE = 16
TOLERANCE = 1e-6  # in logits


def predicted(folder: Path, detector: str, output: Path, **options: Any) -> dict[str, Any]:
    """Rows of scores.parquet with what scores.csv says of them, by path."""
    predict(
        PredictSettings(
            detector=detector,
            input=str(folder),
            output=str(output),
            precision="exact",
            gallery=0,
            **options,
        )
    )
    rows = {row["path"]: row for row in pq.read_table(output / "scores.parquet").to_pylist()}
    with (output / "scores.csv").open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            path = line["path"].removeprefix("./")
            rows[path] |= {"said": line}
    return rows


def answered(address: str, folder: Path, paths: Iterable[str], **query: str) -> dict[str, Any]:
    """The service's answers to the same files, some at a time, as JSON and as a form."""
    found, names = {}, list(paths)
    for at in range(0, len(names), AT_ONCE):
        some = {name: (folder / name).read_bytes() for name in names[at : at + AT_ONCE]}
        if at % (2 * AT_ONCE):
            files = [("images", (name, data)) for name, data in some.items()]
            answer = requests.post(f"{address}/v1/score", params=query, files=files, timeout=120)
        else:
            images = [
                {"name": name, "data": base64.b64encode(data).decode()}
                for name, data in some.items()
            ]
            answer = requests.post(
                f"{address}/v1/score", params=query, json={"images": images}, timeout=120
            )
        assert answer.status_code == 200, answer.text
        rows = answer.json()["images"]
        assert [row["name"] for row in rows] == list(some)
        found |= {row["name"]: row for row in rows}
    return found


def alike(one: Any, other: Any) -> bool:
    """Equal, numbers to rounding: the images of a batch are not the same ones."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    is_number = isinstance(one, float) and isinstance(other, float)
    return abs(one - other) <= TOLERANCE if is_number else one == other


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What of the answers is not as predict's rows have it."""
    wrong = []
    for path, row in theirs.items():
        answer, said = ours[path], row["said"]
        wrong += [
            f"{path}: {name} is {answer[name]!r}, predict's {row[name]!r}"
            for name in COLUMNS
            if not alike(answer[name], row[name])
        ]
        told = {
            "verdict": answer["verdict"] or "",
            "probability": "" if answer["probability"] is None else f"{answer['probability']:.6f}",
            "conflict": answer["conflict"],
            "reason": next(iter(answer["reasons"]), "") if answer["verdict"] else "",
            "p_min": "" if answer["p_min"] is None else f"{answer['p_min']:.6f}",
            "flips": "" if answer["flips"] is None else str(answer["flips"]),
        }
        wrong += [
            f"{path}: {name} is {one!r}, predict's {said[name]!r}"
            for name, one in told.items()
            if one != said[name]
        ]
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("stability", ["none", "web"])
def test_awkward_files(
    address: str, odd: Path, detector_uri: str, tmp_path: Path, stability: str
) -> None:
    theirs = predicted(odd, detector_uri, tmp_path / "scores", stability=stability)
    assert len(theirs) > 100
    ours = answered(address, odd, theirs, stability=stability)
    assert differences(ours, theirs) == []


@pytest.mark.slow
def test_photographs(address: str, realset: Path, detector_uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    files = sorted(one for one in realset.rglob("*") if one.is_file())
    for number, path in enumerate([one for one in files if one.suffix != ".csv"][:500]):
        (folder / f"{number:03}{path.suffix}").symlink_to(path)
    theirs = predicted(folder, detector_uri, tmp_path / "scores")
    assert len(theirs) == 500
    assert differences(answered(address, folder, theirs), theirs) == []
