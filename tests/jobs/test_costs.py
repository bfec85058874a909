"""The cost model: what adds up, what limits, and that more machines never take longer."""

import pytest

from rayapp.benchmark import costs
from rayapp.benchmark.costs import Fleet, Work


def test_the_slowest_part_is_the_limit():
    fleet = Fleet(cpus=10, gpus=2, bytes_per_s=100.0, requests_per_s=5.0)
    assert fleet.seconds(Work(cpu_s=50)) == (5.0, "CPU")
    assert fleet.seconds(Work(cpu_s=50, gpu_s=12)) == (6.0, "GPU")
    assert fleet.seconds(Work(cpu_s=50, read_bytes=400, write_bytes=300)) == (7.0, "network")
    assert fleet.seconds(Work(cpu_s=50, requests=40)) == (8.0, "requests")
    assert fleet.seconds(Work(cpu_s=50, requests=40, quota_s=9)) == (9.0, "quota")
    assert fleet.seconds(Work()) == (0.0, "–")


def test_work_adds_up_and_grows_with_the_images():
    once, thrice = costs.perturb(100, 2), costs.perturb(300, 2)
    total = once + once + once
    assert total.images == thrice.images == 300
    assert total.cpu_s == pytest.approx(thrice.cpu_s)
    assert total.requests == thrice.requests == 300 * 3  # a read and two variants each


def test_more_machines_take_less_until_something_else_limits():
    work = costs.download(200_000, 140e9, quota_s=600)
    times = [Fleet(16 * n, 0, 1e9 * n).seconds(work) for n in (1, 10, 100)]
    assert times[0][0] >= times[1][0] >= times[2][0]
    assert times[-1] == (600, "quota")
