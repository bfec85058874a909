"""Random trees with everything that a file system may hold, and what a tree holds now."""

import os
import unicodedata
from dataclasses import dataclass, field

from hypothesis import strategies as st

NAMES = [
    b"a",
    b"b",
    b"B",
    b"c.png",
    b"C.PNG",
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"back\\slash",
    b"new\nline",
    b"\xff\xfe",
    b".hidden",
    b"x.part",
    b"d,0,0",
]


@dataclass
class Tree:
    """Files with their bytes, links with their targets; empty folders; annotated paths."""

    files: dict[bytes, bytes] = field(default_factory=dict)
    links: dict[bytes, bytes] = field(default_factory=dict)
    empty: list[bytes] = field(default_factory=list)
    annotated: list[str] = field(default_factory=list)


@st.composite
def trees(draw):
    """Paths of up to three parts from few names, so that files and folders get into each other."""
    paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
    tree = Tree()
    folders: set[bytes] = set()
    for path in draw(st.lists(paths, max_size=20, unique=True)):
        parents = [path.rsplit(b"/", k)[0] for k in range(1, path.count(b"/") + 1)]
        leaves = {*tree.files, *tree.links, *tree.empty}
        if path in folders or any(parent in leaves for parent in parents):
            continue
        kind = draw(st.sampled_from(["file"] * 6 + ["link", "folder link", "dead link", "folder"]))
        folders.update(parents)
        if kind == "file":
            tree.files[path] = draw(st.binary(max_size=3))
        elif kind == "folder":
            tree.empty.append(path)
        else:
            tree.links[path] = {"link": b"kept.txt", "folder link": b"folder", "dead link": b"no"}[
                kind
            ]
    there = [*tree.files, *tree.links]
    chosen = draw(st.lists(st.sampled_from(there), unique=True)) if there else []
    more = draw(st.lists(paths, max_size=3))
    for path in chosen + more:
        text = path.decode("utf-8", "surrogateescape")
        if "\udcff" not in text and text not in tree.annotated:
            tree.annotated.append(text)
    return tree


def build(tree, root, outside):
    """The tree under `root`; links lead to `outside`, which must never change."""
    (outside / "folder").mkdir(parents=True)
    (outside / "kept.txt").write_text("kept")
    (outside / "folder" / "inside.txt").write_text("kept too")
    root.mkdir()
    base = os.fsencode(root)
    for path, data in tree.files.items():
        os.makedirs(os.path.dirname(os.path.join(base, path)), exist_ok=True)
        with open(os.path.join(base, path), "wb") as file:
            file.write(data)
    for path, target in tree.links.items():
        os.makedirs(os.path.dirname(os.path.join(base, path)), exist_ok=True)
        os.symlink(os.path.join(os.fsencode(outside), target), os.path.join(base, path))
    for path in tree.empty:
        os.makedirs(os.path.join(base, path), exist_ok=True)


def content(folder):
    """Path → bytes, or target of a link; an empty folder ends in `/`."""
    found = {}
    base = os.fsencode(folder)
    for at, folders, files in os.walk(base):
        for name in [*folders, *files]:
            path = os.path.join(at, name)
            key = os.path.relpath(path, base)
            if os.path.islink(path):
                found[key] = b"-> " + os.readlink(path)
            elif name in files:
                with open(path, "rb") as file:
                    found[key] = file.read()
            elif not os.listdir(path):
                found[key + b"/"] = b""
    return found


def expected(tree):
    """What is left: the annotated files, links to files, and links before annotated images."""
    annotated = {text.encode("utf-8", "surrogateescape") for text in tree.annotated}
    left = {path for path in tree.files if path in annotated}
    for path, target in tree.links.items():
        behind = any(one.startswith(path + b"/") for one in annotated)
        if (target == b"kept.txt" and path in annotated) or (target == b"folder" and behind):
            left.add(path)
    return left


def is_loose(one, other):
    """Whether two names differ only by case, Unicode form or separator, said in another way."""

    def fold(text):
        return unicodedata.normalize("NFC", text.replace("\\", "/")).lower()

    return one != other and fold(one) == fold(other)
