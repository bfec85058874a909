"""One service an output: two would replace each other's counts and score each other's batches."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from rayapp.config.errors import UserError
from rayapp.storage.disk import naming

_FILE = ".serving"


@contextlib.contextmanager
def sole_service(output: str) -> Iterator[None]:
    """The block is the only service of this machine with this output; in a bucket that isn't seen.

    Raises:
        UserError: another one has it.
        OSError: nothing can be written there.
    """
    if "://" in output:
        yield
        return
    folder = Path(output)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _FILE).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--output {output}: another service has it; give this one its own"
            ) from None
        yield
