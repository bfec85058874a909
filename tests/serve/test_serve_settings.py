"""Settings of serve: what goes together, and what a detector is called."""

from typing import Any

import pytest
from pydantic import ValidationError

from rayapp.serve.settings import ServeSettings


def settings(**given: Any) -> ServeSettings:
    return ServeSettings(**{"detector": "/d/mine", **given})


def test_detectors_are_called_by_their_folders() -> None:
    found = settings(detector=["/runs/demo/detector", "s3://bucket/other/", "hf://who/model"])
    assert found.called == ("demo", "other", "model")
    assert settings(names=["a"]).called == ("a",)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"names": ["a", "b"]}, "names: 2 for 1 detectors"),
        ({"names": [""]}, "names: '' can't be asked for; write detector"),
        ({"names": ["a/b c"]}, "names: 'a/b c' can't be asked for; write a-b-c"),
        ({"detector": ["/a/x", "/b/x"]}, "two detectors are called alike"),
        ({"host": "0.0.0.0"}, "host: others reach 0.0.0.0; give --tokens FILE"),
        ({"host": "example.org"}, "host: others reach example.org"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas: is less than min_replicas"),
        ({"add_token": "page"}, "add_token: goes into a file"),
        ({"detector": []}, "at least 1"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings(**given)


def test_tokens_may_be_left_out_on_loopback_alone() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        assert settings(host=host).on_loopback
    assert not settings(host="0.0.0.0", tokens="/t").on_loopback
