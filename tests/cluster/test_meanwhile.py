"""Ray started while something else takes long."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time

import pytest

from rayapp.cluster.session import meanwhile
from rayapp.config.errors import UserError
from rayapp.config.settings import JobSettings


def test_what_is_soon_done_starts_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: JobSettings) -> contextlib.AbstractContextManager[None]:
        raise AssertionError("a session was opened")

    monkeypatch.setattr("rayapp.cluster.session.session", refused)

    def wrong() -> None:
        raise UserError("no such folder")

    with contextlib.ExitStack() as opened:
        settings = JobSettings(output="out")
        assert meanwhile(settings, opened, lambda: 7) == 7
        with pytest.raises(UserError, match="no such folder"):
            meanwhile(settings, opened, wrong)


@pytest.mark.ray
def test_what_fails_after_long_fails_all_the_same() -> None:
    def wrong() -> None:
        time.sleep(1)
        raise UserError("no such folder")

    with contextlib.ExitStack() as opened, pytest.raises(UserError, match="no such folder"):
        meanwhile(JobSettings(output="out"), opened, wrong)


@pytest.mark.ray
def test_ray_starts_meanwhile_and_ends_with_the_block() -> None:
    script = """
        import contextlib, time
        import ray
        from rayapp.cluster.session import meanwhile
        from rayapp.config.settings import JobSettings

        def work():
            while not ray.is_initialized():
                time.sleep(0.1)
            return "listed"

        with contextlib.ExitStack() as opened:
            print(meanwhile(JobSettings(output="out", cpus=1), opened, work))
        print(ray.is_initialized())
    """
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=kept | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["listed", "False"], done.stderr
