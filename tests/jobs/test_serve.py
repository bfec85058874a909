"""The frame of the service: swaps that are refused, and outputs that are taken."""

import socket
from pathlib import Path
from typing import Any

import pytest

from rayapp.config.errors import UserError
from rayapp.jobs.serve import _swap, serve
from rayapp.serve.settings import ServeSettings
from rayapp.serve.sole_service import require_free, sole_service
from tests.detectors import saved_detector


def settings(folder: Path, **more: Any) -> ServeSettings:
    return ServeSettings(detector=(str(folder / "mine"),), output=str(folder / "out"), **more)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"port": 8001}, "host, port and output stay while it runs"),
        ({"host": "::1"}, "host, port and output stay while it runs"),
        ({"tokens": "tokens"}, "tokens: no such file"),
        ({"trust_list": "none.pem"}, "none.pem: no such file"),
    ],
)
def test_what_cannot_be_swapped_is_said_and_the_service_stays(
    tmp_path: Path, more: dict[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved_detector(tmp_path / "mine")
    deployed: list[Any] = []
    _swap(settings(tmp_path), lambda: settings(tmp_path, **more), deployed.append)
    told = capsys.readouterr()
    assert told.err.startswith("not swapped: ")
    assert why in told.err
    assert told.out == ""
    assert deployed == []


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_weights_that_cannot_be_loaded_are_not_swapped_in(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(saved_detector(tmp_path / "mine")) / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-100] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    deployed: list[Any] = []
    _swap(settings(tmp_path), lambda: settings(tmp_path), deployed.append)
    assert "model.safetensors" in capsys.readouterr().err
    assert deployed == []


def test_settings_that_cannot_be_read_are_not_swapped_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def again() -> ServeSettings:
        raise PermissionError(13, "Permission denied", "serve.yaml")

    _swap(settings(tmp_path), again, lambda _: None)
    assert "not swapped: " in capsys.readouterr().err


def test_an_address_has_one_service() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Ray's proxy does
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: can't listen .*address already in"):
            require_free("127.0.0.1", port)
        with pytest.raises(UserError, match="already in use"):
            require_free("localhost", port)
    require_free("127.0.0.1", port)
    for host in ("192.0.2.1", "no.such.name.invalid"):
        with pytest.raises(UserError, match=f"--host {host}"):
            require_free(host, port)


def test_an_output_has_one_service(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    with sole_service(output):
        with pytest.raises(UserError, match="out: another service has it"), sole_service(output):
            pass
        with sole_service(str(tmp_path / "other")):
            pass
    with sole_service(output):
        pass


def test_a_folder_for_batches_that_is_not_there_is_told_before_all_else(tmp_path: Path) -> None:
    saved_detector(tmp_path / "mine")
    asked = settings(tmp_path, batch_roots=(str(tmp_path), str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"--batch-roots .*none: no such folder"):
        serve(asked, lambda: asked)
