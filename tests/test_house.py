"""The house as docs/architecture.md draws it: short ways through it, none in a circle."""

import pytest

from benchmarks.house import (
    MOST,
    circle,
    imports,
    longest_chain,
    modules,
    repeated_names,
    root_modules,
)

KNOWN = modules()


@pytest.mark.parametrize("late", [False, True])
def test_no_modules_import_each_other(late: bool) -> None:
    assert circle(imports(KNOWN, late=late)) == []


def test_the_longest_chain_of_imports_is_short() -> None:
    chain = longest_chain(imports(KNOWN, late=False))
    assert len(chain) <= MOST["chain"], " → ".join(chain)


def test_the_root_is_nearly_empty_and_few_files_share_a_name() -> None:
    assert len(root_modules(KNOWN)) <= MOST["root"]
    assert len(repeated_names(KNOWN)) <= MOST["names"]


def test_chains_and_circles_are_found() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"a"}}
    frozen = {name: frozenset(one) for name, one in graph.items()}
    assert longest_chain(frozen) == ["e", "a", "b", "c", "d"]
    assert circle(frozen) == []
    assert len(circle(frozen | {"d": frozenset({"b"})})) == 4
