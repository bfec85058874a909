"""The quota governor, with time in the test's hand."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.governor import EVERY_FILE, Governor, LocalGate, Quota, apply


def test_uses_the_quota_and_never_more() -> None:
    governor = Governor(Quota(units_per_s=5400, request_units=200, burst_units=200))
    sent = sorted(0.0 + governor.lease("f", 1, 0.0).wait_s for _ in range(271))
    assert sent[0] == 0
    assert sent[-1] == pytest.approx(270 / 27)  # 27 a second, the first at once
    assert min(b - a for a, b in itertools.pairwise(sent)) > 0.999 / 27


def test_idle_time_is_not_saved_up_beyond_the_burst() -> None:
    governor = Governor(Quota(units_per_s=10, burst_units=2))
    governor.lease("f", 1, 0.0)
    waits = [governor.lease("f", 1, 100.0).wait_s for _ in range(4)]
    assert waits == pytest.approx([0, 0, 0.1, 0.2])


def test_a_refusal_pauses_the_origin_and_doubles() -> None:
    governor = Governor(Quota())
    governor.refused(None, 0.0)
    assert governor.lease("f", 1, 0.0).wait_s == 0.5
    governor.refused(None, 0.1)  # an answer that was under way
    assert governor.lease("f", 1, 0.1).wait_s == pytest.approx(0.4)
    governor.refused(None, 1.0)
    assert governor.lease("f", 1, 1.0).wait_s == 1.0
    governor.served()
    governor.refused(None, 10.0)
    assert governor.lease("f", 1, 10.0).wait_s == 0.5


def test_18_retry_after_is_kept() -> None:
    governor = Governor(Quota())
    governor.refused(30.0, 0.0)
    assert governor.lease("f", 1, 10.0).wait_s == 20


def test_24_a_parked_file_does_not_hold_up_others() -> None:
    governor = Governor(Quota())
    apply(governor, "a", Fault(Action.PARK, "quota of a"), 0.0)
    assert governor.lease("a", 1, 1.0).parked == "quota of a"
    assert governor.lease("b", 1, 1.0).parked == ""
    assert governor.lease("a", 1, 7 * 3600.0).parked == ""
    apply(governor, "b", Fault(Action.PARK_ORIGIN, "the day's quota"), 0.0)
    assert governor.lease("c", 1, 1.0).parked == "the day's quota"
    assert EVERY_FILE in governor._parked


def test_22_one_minter_for_all() -> None:
    gate = LocalGate()
    minted = []
    barrier = threading.Barrier(8)

    def mint() -> str:
        minted.append(1)
        return f"url-{len(minted)}"

    def ask(stale: str) -> str:
        barrier.wait()
        return gate.share("archive", stale, mint)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, [""] * 8)) == {"url-1"}
        assert set(threads.map(ask, ["url-1"] * 8)) == {"url-2"}
    assert len(minted) == 2


def test_a_failed_mint_frees_the_turn() -> None:
    gate = LocalGate()

    def fail() -> str:
        raise Fault(Action.FAIL, "no")

    with pytest.raises(Fault):
        gate.share("k", "", fail)
    assert gate.share("k", "", lambda: "url") == "url"
