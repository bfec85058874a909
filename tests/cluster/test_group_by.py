"""Files of equal bytes across the parts of a large result: the same as of one table."""

from pathlib import Path

import pyarrow as pa
import pytest

from rayapp.dataset import manifest
from rayapp.dataset.repeats import repeats_of
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.storage.uris import open_store
from tests.dataset.test_repeats import images


@pytest.mark.ray
def test_the_group_by_of_workers_is_that_of_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from rayapp.cluster import group_by

    monkeypatch.setattr(group_by, "_ROWS_A_PARTITION", 500)
    monkeypatch.setattr(group_by, "_PARTS_A_TASK", 2)
    whole = images(2000, kinds=900)
    # One picture stands for many that were taken down: it is in every part.
    blank = pa.table({"path": [f"gone/{at}.png" for at in range(600)], "sha256": ["f" * 64] * 600})
    whole = pa.concat_tables([whole, blank], promote_options="default")
    whole = whole.take(pa.array([at * 7 % 2600 for at in range(2600)]))
    folder = DatasetFolder(open_store(tmp_path), "scores")
    for number, at in enumerate(range(0, 2600, 300)):
        key = f"{folder.name}/part-{number}.parquet"
        manifest.write_table(folder.store, key, whole.slice(at, 300))
    found = group_by.repeats_among(folder, whole.num_rows)
    assert found == repeats_of([whole])
    assert found.largest[0][0] == 600
