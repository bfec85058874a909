"""Lines counted, and the first named."""

import random

from rayapp.run.first_lines import FirstLines


def test_the_first_are_named_whatever_the_order_and_the_parts():
    numbers = list(range(40))
    random.Random(0).shuffle(numbers)
    whole, parts = FirstLines(5), [FirstLines(5) for _ in range(3)]
    for at, number in enumerate(numbers):
        whole.add(number, f"line {number}")
        parts[at % 3].add(number, f"line {number}")
    summed = FirstLines(5)
    for part in parts:
        summed.merge(part)
    assert whole.lines == summed.lines == [f"line {number}" for number in range(5)]
    assert whole.count == summed.count == 40
