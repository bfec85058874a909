"""Which disk is full: the system's own error of a write names no file."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

# No space left, over quota, read-only.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A disk that takes no more is named `path` in the block's error, where nothing names it."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
        raise


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder of temporary files for the block."""
    with (
        naming(tempfile.gettempdir()),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        yield folder


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """A temporary file for the block."""
    with naming(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        yield file
