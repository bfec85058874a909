"""An ONNX file read as data: its weights of files beside it are put into it, and nothing is run."""

from collections.abc import Iterator, Sequence
from typing import Any

from rayapp.config.errors import UserError
from rayapp.models.adopted.checks import check_inside
from rayapp.storage.store import Store

WANTED = "pip install 'imaginet-ray[onnx]'"
_MOST_BYTES = (1 << 31) - 1  # of one message of protobuf, so of one ONNX file


def as_one_file(model: bytes, where: str, store: Store | None = None) -> bytes:
    """The file itself where it holds all of its weights; else one that does.

    Args:
        model: the bytes of the file.
        where: names it.
        store: its folder, out of which no weights are read; None: it has to hold them all.

    Raises:
        UserError: no ONNX file, or one that asks for data that is not beside it.
    """
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        raise UserError(f"an ONNX file is read by onnx, which is not installed: {WANTED}") from None
    try:
        found = onnx.load_model_from_string(model)
    except Exception:  # noqa: BLE001 - protobuf's own error, whose class depends on its build
        raise UserError(f"{where}: not an ONNX file") from None
    if not found.graph.node:
        raise UserError(f"{where}: not an ONNX file")
    beside = [tensor for tensor in _tensors(found) if uses_external_data(tensor)]
    if not beside:
        return model
    if store is None:
        raise UserError(f"{where}: refused: it asks for data of other files; save it as one file")
    for tensor in beside:
        tensor.raw_data = _read(tensor, store, where)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    if found.ByteSize() > _MOST_BYTES:
        raise UserError(f"{where}: with its weights it is larger than the 2 GB of an ONNX file")
    return bytes(found.SerializeToString(deterministic=True))


def _read(tensor: Any, store: Store, where: str) -> bytes:
    """The bytes of a tensor's values, of the file beside that it names."""
    named = {entry.key: entry.value for entry in tensor.external_data}
    name = named.get("location", "").removeprefix("./")
    check_inside(store, name)
    stat = store.stat(name)
    if stat is None:
        raise UserError(f"{where}: {name}: no such file; its weights have to lie beside it")
    try:
        start = int(named.get("offset", 0))
        length = int(named.get("length", stat.size - start))
    except ValueError:
        raise UserError(f"{where}: says not where in {name} its weights are") from None
    if not 0 <= start <= start + length <= stat.size:
        raise UserError(f"{where}: {name}: too short; it is not whole, or of another export")
    return store.get_range(name, start, length)


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of an ONNX file, however deep it lies."""
    for field, value in message.ListFields():
        for one in value if isinstance(value, Sequence) or hasattr(value, "add") else [value]:
            if getattr(field.message_type, "name", "") == "TensorProto":
                yield one
            elif field.message_type is not None:
                yield from _tensors(one)
