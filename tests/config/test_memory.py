import subprocess
import sys

import pytest

_FREED = """
import time
from pathlib import Path

from rayapp.config.memory import give_freed_memory_back


def held_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1e3


# Each below what malloc maps for itself; every hundredth stays, and keeps the others in the heap.
blocks = [bytearray(100_000) for _ in range(3000)]
full = held_mb()
blocks = blocks[::100]
freed = held_mb()
give_freed_memory_back(0.1)
time.sleep(1)
print(full, freed, held_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_freed_memory_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True)
    full, freed, given_back = map(float, ran.stdout.split())
    assert freed > full - 30  # as the process keeps it
    assert given_back < freed - 200
