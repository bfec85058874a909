"""Is the house in order? The longest chain of imports, circles, the root, names, lines, the walk.

python benchmarks/house.py [--quick]

An import counts wherever it stands in a module, but under TYPE_CHECKING: `chain` is the longest
path of modules that import each other as they are loaded, in modules; `chain_late` also follows
imports inside of functions. A circle is a set of modules that import each other, either way.
`names` counts the files whose name another file of the package has too, `__init__.py` aside. The
walk is that of `benchmarks/walk.py`: the functions and files that hand one image on from
`jobs/predict.py` to its row, watched by Python's profiler on a real run; --quick leaves it out.
The last line is JSON.
"""

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rayapp"
MOST = {"chain": 12, "circles": 0, "root": 3, "names": 25, "functions": 32, "files": 10}
Graph = Mapping[str, frozenset[str]]


def modules() -> dict[str, Path]:
    """Every module of the package: its dotted name and its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: Mapping[str, Path], *, late: bool) -> Graph:
    """Which modules of ours each one imports when it is loaded; `late`: or when it is called."""
    return {
        name: frozenset(_imported(ast.parse(path.read_text()), known, late)) - {name}
        for name, path in known.items()
    }


def _imported(tree: ast.AST, known: Mapping[str, Path], late: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = (f"{node.module}.{one.name}" for one in node.names)
            for name in whole:
                if name in known or node.module in known:
                    yield name if name in known else node.module
        else:
            yield from _imported(node, known, late)


def circle(graph: Graph) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; none: empty."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def longest_chain(graph: Graph) -> list[str]:
    """The longest path from a module to one that it leads to; there must be no circle."""
    best: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below = max((best[one] for one in sorted(graph[name])), key=len, default=[])
        best[name] = [name, *below]
    return max(best.values(), key=len)


def repeated_names(known: Mapping[str, Path]) -> list[str]:
    """Names of files that several folders have, once a file."""
    counts = Counter(path.name for path in known.values() if path.name != "__init__.py")
    return sorted(name for name, count in counts.items() if count > 1 for _ in range(count))


def root_modules(known: Mapping[str, Path]) -> list[str]:
    """Modules directly in the package."""
    return [name for name, path in known.items() if path.parent == PACKAGE]


def num_lines(known: Mapping[str, Path]) -> int:
    """Lines of the package."""
    return sum(len(path.read_text().splitlines()) for path in known.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the walk")
    quick = parser.parse_args().quick
    known = modules()
    loaded, called = imports(known, late=False), imports(known, late=True)
    circles = [one for graph in (loaded, called) if (one := circle(graph))]
    chain = [] if circles else longest_chain(loaded)
    late = [] if circles else longest_chain(called)
    found: dict[str, int | None] = {
        "chain": len(chain) or None,
        "chain_late": len(late) or None,
        "circles": len(circles),
        "root": len(root_modules(known)),
        "names": len(repeated_names(known)),
        "modules": len(known),
        "lines": num_lines(known),
    }
    if not quick:
        from benchmarks.walk import walk  # torch comes with it

        places = walk()
        found |= {"functions": len(places), "files": len({file for file, _ in places})}
    for one in circles:
        print(f"circle: {_arrows(one)}")
    print(f"longest chain: {_arrows(chain)}")
    print(f"repeated names: {', '.join(sorted(set(repeated_names(known))))}\n")
    print(f"{'':<12}{'found':>8}{'at most':>9}")
    for name, value in found.items():
        print(f"{name:<12}{'–' if value is None else f'{value:,}':>8}{MOST.get(name, ''):>9}")
    print(json.dumps(found))


def _arrows(names: Sequence[str]) -> str:
    return " → ".join(name.removeprefix("rayapp.") for name in names)


if __name__ == "__main__":
    main()
