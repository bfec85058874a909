import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from rayapp.storage.uris import open_store
from rayapp.train.journal import write_events, write_metrics


def _epoch(number: int, validation_loss: float | None = None) -> dict[str, Any]:
    return {
        "stage": "stage2",
        "epoch": number,
        "step": 10 * number,
        "loss": 1 / number,
        "validation_loss": validation_loss,
        "learning_rate": 0.1,
        "images_per_s": 50.0,
        "data_wait_share": 0.25,
    }


def _scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of a file of TensorBoard: length, checksum, event, checksum, and again."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value
        data = data[16 + length :]


def test_tensorboard_reads_a_file_an_epoch(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write_events(store, 1, _epoch(1))
    write_events(store, 2, _epoch(2, validation_loss=0.4))
    write_events(store, 2, _epoch(2, validation_loss=0.4))  # the epoch done again after a kill
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    assert "tfevents" in first.name, "TensorBoard looks at such names only"
    assert {tag for _, tag, _ in _scalars(first)} == {
        f"stage2/{name}" for name in ("loss", "learning_rate", "images_per_s", "data_wait_share")
    }
    scalars = {tag: (step, value) for step, tag, value in _scalars(second)}
    assert len(list(_scalars(second))) == 5
    assert scalars["stage2/loss"] == (20, 0.5)
    assert scalars["stage2/validation_loss"][1] == pytest.approx(0.4)


def test_metrics_have_a_line_an_epoch_and_no_value_where_there_is_none(tmp_path: Path) -> None:
    write_metrics(open_store(tmp_path), [_epoch(1), _epoch(2, 0.4)])
    head, first, second = (tmp_path / "metrics.csv").read_text().splitlines()
    assert head.startswith("stage,epoch,step,loss,validation_loss")
    assert first.startswith("stage2,1,10,1.0,,0.1")
    assert second.startswith("stage2,2,20,0.5,0.4,0.1")
