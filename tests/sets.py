"""The same pictures as sets of every form: a folder, a list, tables, tars."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def as_folder(folder: Path, images: Mapping[str, bytes]) -> Path:
    """Files."""
    for name, data in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def as_tables(folder: Path, images: Mapping[str, bytes], shards: int = 2) -> Path:
    """Tables of `image{bytes, path}` with a label, as Hugging Face lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, names in enumerate(_cut(list(images), shards)):
        table = pa.table(
            {
                "image": pa.array([{"bytes": images[n], "path": n} for n in names], IMAGE),
                "label": pa.array([label_of(n) for n in names], pa.int64()),
            }
        )
        file = folder / f"train-{at:05}-of-{shards:05}.parquet"
        pq.write_table(table, file, row_group_size=max(1, len(names) // 3))
    return folder


def as_plain_tables(folder: Path, images: Mapping[str, bytes], shards: int = 2) -> Path:
    """Tables of a column of bytes, and a column that names each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, names in enumerate(_cut(list(images), shards)):
        data = pa.array([images[name] for name in names], pa.binary())
        table = pa.table({"image_bytes": data, "name": names})
        pq.write_table(table, folder / f"{at}.parquet", row_group_size=max(1, len(names) // 3))
    return folder


def as_hub(folder: Path, images: Mapping[str, bytes]) -> Path:
    """A folder as a data set of the Hugging Face hub has: a card, and tables under `data`."""
    as_tables(folder / "data", images)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# A set\n")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")
    return folder


def as_tars(folder: Path, images: Mapping[str, bytes], shards: int = 2) -> Path:
    """WebDataset shards: a picture and its class under one key."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, names in enumerate(_cut(list(images), shards)):
        with tarfile.open(folder / f"{at:06}.tar", "w") as tar:
            for name in names:
                stem = name.partition(".")[0]
                label = label_of(name)
                sides = {"cls": str(label).encode(), "json": json.dumps({"a": label}).encode()}
                members = {f"{stem}.{suffix}": data for suffix, data in sides.items()}
                for member, data in sorted((members | {name: images[name]}).items()):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def label_of(name: str) -> int:
    """Some label."""
    return sum(name.encode()) % 2


def _cut(names: list[str], parts: int) -> list[list[str]]:
    size = -(-len(names) // parts)
    return [names[at : at + size] for at in range(0, len(names), size)]
