import subprocess
import sys

import pytest

_LARGE_PARENT = """
import subprocess, sys
held = b"1" * 1_500_000_000
child = "from rayapp.predict.score_rows import _peak_mb; print(_peak_mb('cpu'))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counted otherwise there")
def test_the_memory_of_a_worker_is_not_that_of_whoever_started_it() -> None:
    ran = subprocess.run([sys.executable, "-c", _LARGE_PARENT], capture_output=True, text=True)
    assert 100 < float(ran.stdout) < 1400
