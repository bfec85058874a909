"""The OpenAPI document says what the service does: schemathesis finds no difference."""

import subprocess
import sys
from pathlib import Path

import pytest

from rayapp.serve.desk import DeskSettings
from rayapp.serve.incoming.tokens import Tokens, add_token
from rayapp.serve.incoming.web_images import WebImages
from tests.serve.services import HereScoring, serving

_SECONDS = 400


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS + 60)
@pytest.mark.parametrize(("is_guarded", "fetches"), [(False, False), (True, False), (False, True)])
def test_schemathesis_finds_nothing(
    scoring: HereScoring, tmp_path: Path, is_guarded: bool, fetches: bool
) -> None:
    (tmp_path / "images").mkdir()
    roots = (str(tmp_path / "images"),) if is_guarded else ()
    desk = DeskSettings(str(tmp_path / "served"), scoring.uris, roots=roots)
    token = add_token(str(tmp_path / "tokens"), "tester")
    tokens = Tokens(str(tmp_path / "tokens")) if is_guarded else None
    web = WebImages(frozenset({"*.example"}), lambda *_: []) if fetches else None
    with serving(scoring, desk, tokens=tokens, web=web) as address:
        _run(f"{address}/openapi.json", token if is_guarded else "", tmp_path, fetches)


def _run(document: str, token: str, folder: Path, fetches: bool) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", document]
    command += ["--seed", "1", "--max-examples", "100", "--continue-on-failure", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}"] if token else []
    # Which hosts are allowed is told to nobody: the document has no form that is sure to be taken.
    command += ["--exclude-checks", "positive_data_acceptance"] if fetches else []
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
