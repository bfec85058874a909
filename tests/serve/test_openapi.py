"""The OpenAPI document says what the service does: schemathesis finds no difference."""

import subprocess
import sys
from pathlib import Path

import pytest

from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.tokens import Tokens, add_token
from tests.serve.services import HereScoring, serving

_SECONDS = 400


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS + 60)
@pytest.mark.parametrize("is_guarded", [False, True])
def test_schemathesis_finds_nothing(scoring: HereScoring, tmp_path: Path, is_guarded: bool) -> None:
    (tmp_path / "images").mkdir()
    roots = (str(tmp_path / "images"),) if is_guarded else ()
    desk = DeskSettings(str(tmp_path / "served"), scoring.uris, roots=roots)
    token = add_token(str(tmp_path / "tokens"), "tester")
    tokens = Tokens(str(tmp_path / "tokens")) if is_guarded else None
    with serving(scoring, desk, tokens=tokens) as address:
        _run(f"{address}/openapi.json", token if is_guarded else "", tmp_path)


def _run(document: str, token: str, folder: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", document]
    command += ["--seed", "1", "--max-examples", "100", "--continue-on-failure", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}"] if token else []
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
