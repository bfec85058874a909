"""One service an output and an address: two would replace each other's counts, share requests."""

import contextlib
import fcntl
import os
import socket
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


def require_free(host: str, port: int) -> None:
    """Nothing where a service can listen; Ray itself would share a port that another one has.

    Raises:
        UserError: it can't.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that has just ended
            tried.bind((host, port))
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # a name that is none has its own
        why = os.strerror(error.errno or 0) if known else str(error.strerror)
        raise UserError(
            f"--host {host} --port {port}: can't listen there ({why.lower()}); give another"
        ) from None
