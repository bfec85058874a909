"""A data set on the hub is read where it lies: found at its commit, by ranges."""

from pathlib import Path

import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.inputs.input_shards import find_shards
from rayapp.dataset.shard_rows import read
from rayapp.storage import hub_datasets as hub
from tests.doubles.hub import Hub
from tests.doubles.server import Reply, Request, Server
from tests.sets import as_tables

COMMIT = "c" * 40
IMAGES = {f"{at:03}.png": bytes([at]) * 400 for at in range(8)}


def test_rows_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start = f"/datasets/owner/name/resolve/{COMMIT}"
    files = {
        f"{start}/cats/{file.name}": file.read_bytes()
        for file in as_tables(tmp_path, IMAGES).iterdir()
    }

    def answer(request: Request) -> Reply:
        if request.path == "/api/datasets/owner/name/revision/main":
            return Reply.json({"id": "owner/name", "sha": COMMIT})
        return there._hub(request)

    with Hub(files) as there, Server(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.port}")
        hub._hub.cache_clear()
        hub._files.cache_clear()
        try:
            shards = find_shards("hf://datasets/owner/name/cats", None, None, 99)
            assert shards is not None
            assert shards.num_rows == 8
            tables = [table for piece in shards.pieces() for table in read(shards, piece)]
            assert pa.concat_tables(tables)["data"].to_pylist() == list(IMAGES.values())
            assert shards.root.root == f"hf://datasets/owner/name@{COMMIT}"
            with pytest.raises(UserError, match="no such configuration"):
                find_shards("hf://datasets/owner/name/dogs@main", None, None, 0)
        finally:
            hub._hub.cache_clear()
