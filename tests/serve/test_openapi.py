"""The OpenAPI document says what the service does: schemathesis finds no difference."""

import subprocess
import sys
from pathlib import Path

import pytest

_SECONDS = 400


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS + 60)
def test_schemathesis_finds_nothing(address: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
    command += ["--seed", "1", "--max-examples", "40", "--continue-on-failure", "--no-color"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
