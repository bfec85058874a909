"""The layout that a tree of images has, read off the names of its folders, in --layout's words."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rayapp.annotate.folder_layout import ANY, CONTENT, GENERATOR, ROOT, by_layout, parse_layout
from rayapp.annotate.words import (
    REAL,
    SYNTHETIC,
    WEAK,
    Origin,
    like_a_content,
    like_a_generator,
    origin_of,
    subset_of,
)

Folders = tuple[str, ...]


def subset_levels(tree: Iterable[Folders]) -> set[int]:
    """The levels of a tree at which folders are called val or test, in some form.

    A folder train alone splits nothing: it is a class of ForenSynths, too.
    """
    return {
        k for names in tree for k, name in enumerate(names) if subset_of(name) in {"val", "test"}
    }


def subset_level(folders: Folders, levels: set[int]) -> int | None:
    """The level at which a folder is of a published split, or None."""
    return next((k for k in sorted(levels) if k < len(folders) and subset_of(folders[k])), None)


def recognise(paths: Iterable[str], name: str) -> str | None:
    """The layout that the folders' names tell, for --layout; None where they don't, or not clearly.

    Args:
        paths: of images under the root.
        name: the root folder's own name, which counts where no folder below it says an origin.
    """
    tree = folders_of(paths)
    levels = subset_levels(tree)
    known = _origins(tree)
    if not known and not any(map(words_of, tree)) and origin_of(name):
        return f"{ROOT}={origin_of(name)}"
    if not known or (len({o for _, o in known.values()}) == 1 and len(known) < len(tree)):
        return None
    shapes: dict[tuple[int, int | None], _Shape] = {}
    for names, (level, origin) in known.items():
        key = level, subset_level(names, levels)
        shapes.setdefault(key, _Shape(*key)).folders[origin].append(names)
    texts = dict.fromkeys(text for shape in shapes.values() for text in shape.texts())
    layout = ",".join(sorted(texts, key=lambda text: -text.count("/")))
    files = {"/".join((*names, "image")): origin for names, (_, origin) in known.items()}
    found, other = by_layout(files, parse_layout(layout))
    agrees = not other and all(one.origin == files[one.path] for one in found)
    return layout if agrees else None


def folders_of(paths: Iterable[str]) -> list[Folders]:
    """The folders that hold the files, each once, from the root on."""
    return sorted({tuple(path.split("/")[:-1]) for path in paths})


def words_of(names: Folders) -> dict[int, Origin]:
    """Level → origin, of the folders whose names say one; weak words where there are no others."""
    found = {k: origin for k, name in enumerate(names) if (origin := origin_of(name))}
    plain = {k: origin for k, origin in found.items() if names[k].lower() not in WEAK}
    return plain if len(set(found.values())) > 1 else found


def _origins(tree: Sequence[Folders]) -> dict[Folders, tuple[int, Origin]]:
    """The folders that say clearly whether their images are real: at which level, and what."""
    at_level: defaultdict[int, set[Origin]] = defaultdict(set)
    for names in tree:
        for level, name in enumerate(names):
            if origin := origin_of(name):
                at_level[level].add(origin)
    found = {}
    for names in tree:
        # Where real and synthetic stand side by side they are meant; alone they may be a content.
        beside = {
            k: o for k, n in enumerate(names) if len(at_level[k]) == 2 and (o := origin_of(n))
        }
        named = beside or words_of(names)
        level = min(named, default=0)
        if len(set(named.values())) == 1 and not {",", "="} & set(names[level]):
            found[names] = level, named[level]
    return found


@dataclass
class _Shape:
    """Folders in which the origin, and the split, stand at the same levels."""

    origin: int
    subset: int | None
    folders: dict[Origin, list[Folders]] = field(default_factory=lambda: {REAL: [], SYNTHETIC: []})

    def texts(self) -> list[str]:
        """What the shape is in --layout's words; subset by subset where these are not alike."""
        subset = self.subset
        if subset is None or subset == self.origin:
            return self._patterns()
        subsets: dict[str, _Shape] = {}
        for origin, tree in self.folders.items():
            for names in tree:
                one = subsets.setdefault(names[subset], _Shape(self.origin, subset))
                one.folders[origin].append(names)
        if len({one._generator() for one in subsets.values()}) == 1:
            return self._patterns()
        return [text for name, one in subsets.items() for text in one._patterns({subset: name})]

    def _patterns(self, literal: Mapping[int | None, str] = {}) -> list[str]:
        generator = self._generator()
        content = self._content(generator)
        found = []
        for origin, tree in self.folders.items():
            roles: dict[int | None, str] = {content[origin]: CONTENT}
            roles.update(literal.items())
            if origin == SYNTHETIC:
                roles[generator] = GENERATOR
            used = max(k for k in (*roles, self.origin) if k is not None) + 1
            for names in tree:
                words = [roles.get(k, ANY) for k in range(min(used, len(names)))]
                words[self.origin] = names[self.origin].lower()
                found.append("/".join(words))
        return list(dict.fromkeys(found))

    def _names(self, level: int, origin: Origin) -> set[str]:
        """The folders of a level; none where they are but numbers."""
        found = {names[level] for names in self.folders[origin] if len(names) > level}
        return set() if all(name.isdecimal() for name in found) else found

    def _above(self) -> list[int]:
        return [k for k in range(self.origin) if k != self.subset]

    def _below(self) -> tuple[int, int]:
        one, two = [k for k in range(self.origin + 1, self.origin + 4) if k != self.subset][:2]
        return one, two

    def _generator(self) -> int | None:
        """The level that names the generator: the likeliest, below the origin before above it."""
        one, two = self._below()
        shared = self._names(one, SYNTHETIC) & self._names(one, REAL)
        levels = [*([] if shared else [one]), *self._above(), two]
        best, best_share = None, 0.0
        for level in levels:
            names = self._names(level, SYNTHETIC)
            share = sum(map(like_a_generator, names)) / max(len(names), 1)
            unknown = len(names) > 1 and not any(map(like_a_content, names))
            if share > best_share or (best is None and unknown):
                best, best_share = level, share
        return best

    def _content(self, generator: int | None) -> dict[Origin, int | None]:
        """The level that names what is shown, for each origin: both have folders of one name."""
        one, two = self._below()
        pairs = [*((k, k) for k in self._above()), (one, one), (two, one)]
        for synthetic, real in pairs:
            fakes, reals = self._names(synthetic, SYNTHETIC), self._names(real, REAL)
            if synthetic == generator or not fakes & reals or len(fakes | reals) < 2:
                continue
            if synthetic > self.origin or self._varies(synthetic, generator):
                return {SYNTHETIC: synthetic, REAL: real}
        return {SYNTHETIC: None, REAL: None}

    def _varies(self, level: int, generator: int | None) -> bool:
        """Whether a level above the origin is not only the generator's name once more."""
        if generator is None or generator > self.origin:
            return True
        pairs = {(names[generator], names[level]) for names in self.folders[SYNTHETIC]}
        return len(pairs) > len({maker for maker, _ in pairs})
