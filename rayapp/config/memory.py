"""How a process treats the memory that it has freed."""

import ctypes
import sys
import threading
import time

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Has this process keep freed memory instead of giving it back to the system each time.

    Pixels and feature maps take megabytes; to map and clear their pages anew each time costs a
    tenth of the time of decoding, up to half of that of a forward pass. The process then stays as
    large as it ever was. Only glibc can be told; elsewhere nothing happens.
    """
    if glibc := _glibc():
        glibc.mallopt(_M_MMAP_MAX, 0)
        glibc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_freed_memory_back(every_s: float) -> None:
    """Has this process give all freed memory back to the system, every so many seconds.

    For what runs for months: what was freed between things still in use stays otherwise, more with
    each kind of load that it ever had. To give it back takes some hundredths of a second.
    Only glibc can be told; elsewhere nothing happens.
    """
    if glibc := _glibc():

        def give_back() -> None:
            while True:
                time.sleep(every_s)
                glibc.malloc_trim(0)

        threading.Thread(target=give_back, name="give-memory-back", daemon=True).start()


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
