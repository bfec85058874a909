import time
from collections.abc import Iterator

import pytest

from rayapp.storage.retry import Tries


class Broken(Exception):
    """What an attempt raises."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made, without the time that they take."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def is_broken(error: BaseException) -> bool:
    return isinstance(error, Broken)


def test_pauses_have_full_jitter_up_to_a_cap(pauses: list[float]) -> None:
    def fail() -> None:
        raise Broken

    for _ in range(200):
        with pytest.raises(Broken):
            Tries(attempts=11, base_s=1.0, cap_s=8.0).call(fail, is_broken)
    assert len(pauses) == 200 * 10
    by_attempt = [pauses[at::10] for at in range(10)]
    for at, found in enumerate(by_attempt):
        most = min(8.0, 2.0**at)
        assert 0.9 * most < max(found) <= most
        assert min(found) < 0.1 * most


def test_what_a_server_asks_for_is_waited_and_what_cannot_pass_is_raised_at_once(
    pauses: list[float],
) -> None:
    raised: list[Exception] = [Broken(), Broken(), ValueError("no")]

    def once() -> None:
        raise raised[len(pauses)]

    with pytest.raises(ValueError, match="no"):
        Tries().call(once, is_broken, lambda error: 7.0)
    assert pauses == [7.0, 7.0]


def test_work_that_yields_goes_on_where_it_broke_and_may_be_left(pauses: list[float]) -> None:
    def numbers() -> Iterator[int]:
        done = 0
        for attempt in Tries(base_s=0.001).each(is_broken):
            with attempt:
                for number in range(done, 6):
                    done += 1
                    yield number
                    if number in (1, 3):
                        raise Broken

    assert list(numbers()) == list(range(6))
    assert len(pauses) == 2
    left = numbers()
    assert next(left) == 0
    left.close()
    assert len(pauses) == 2
