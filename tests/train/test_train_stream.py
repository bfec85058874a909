import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from rayapp.cluster.board import Board
from rayapp.config.errors import UserError
from rayapp.jobs.train_stream import batch_of, streamed
from rayapp.train.data.crops import Batch, Crops
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings

Tiny = Callable[..., TrainSettings]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 0}, "wants num_workers above 0"),
        ({"min_workers": 1}, "no min_workers"),
        ({"feature_cache": "kept"}, "no feature_cache"),
        ({"num_workers": 2, "stage1__batch_size": 13}, "2 workers share evenly, not 13"),
    ],
)
def test_settings_that_a_stream_cannot_keep_say_why(
    tiny: Tiny, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tiny(ingest="stream", **changes)


def test_less_than_a_batch_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"44 images are less than a batch of stage1 \(64\)"):
        make_job(tiny(ingest="stream", stage1__batch_size=64))


@pytest.mark.ray
@pytest.mark.slow
def test_workers_share_each_epoch_and_what_cannot_be_read_is_named(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    lines = (data / "all.txt").read_text().splitlines()
    lines[5] = lines[5].replace("05.png", "gone.png")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    settings = tiny(ingest="stream", annotations=[str(tmp_path / "list.txt")], num_workers=2)
    whole = make_job(settings)[0]
    board = Board.remote()
    job, datasets = streamed(whole, board)
    assert job.stages[0].step_sizes == [12, 12, 12]
    splits = datasets["stage1"].streaming_split(2, equal=True)
    seen: list[list[Batch]] = [[], []]

    def take(rank: int) -> None:
        for epoch in range(2):
            if rank == 0:
                ray.get(board.begin.remote("stage1", epoch))
            blocks = splits[rank].iter_batches(batch_size=11, batch_format="pyarrow")
            seen[rank] += [batch_of(block) for block in blocks]

    threads = [threading.Thread(target=take, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(not thread.is_alive() for thread in threads)
    by_epoch = [[*seen[0][at : at + 2], *seen[1][at : at + 2]] for at in (0, 2)]
    for batches in by_epoch:
        assert sum(map(len, batches)) == 43
        assert [list(b.failures) for b in batches if b.failures] == [["gone.png"]]
        assert sum(int(b.targets_N.sum()) for b in batches) == 28
    stage = whole.stages[0]
    crops = Crops(stage.items, settings.root, stage.perturbation, settings.seed)
    sound = [item for item in stage.items if item.id != "gone.png"]
    for epoch, batches in enumerate(by_epoch):
        read = {bytes(row.numpy()) for b in batches if len(b) for row in b.inputs.flatten(1)}
        assert read == {crops.crop(item, epoch).tobytes() for item in sound}
    assert crops.crop(sound[0], 0).tobytes() != crops.crop(sound[0], 1).tobytes()
