"""A layout to give by hand, where the folders' names don't tell one clearly."""

import shlex
from collections.abc import Iterable, Sequence

from rayapp.annotate.folder_layout import ANY, GENERATOR, ROOT
from rayapp.annotate.recognise import Folders, folders_of, subset_levels, words_of
from rayapp.annotate.words import (
    CODES,
    REAL,
    SYNTHETIC,
    Origin,
    like_a_camera,
    like_a_generator,
    origin_of,
)

_SHOWN = 4


def propose(paths: Iterable[str]) -> str:
    """What to give as --layout, ready to paste; behind it what it supposes, if anything."""
    tree = folders_of(paths)
    subsets = subset_levels(tree)
    guesses = {k: _guesses(tree, k) for k in range(max(map(len, tree))) if k not in subsets}
    guesses = {k: found for k, found in guesses.items() if found}
    if not guesses:
        return f"{_option(f'{ROOT}=real')}, or {_option(f'{ROOT}=synthetic')}"
    level = max(guesses, key=lambda k: sum(map(bool, guesses[k].values())) / len(guesses[k]))
    before, origins = f"{ANY}/" * level, guesses[level]
    doubtful = [name for name, origin in origins.items() if not origin]
    if doubtful and REAL not in origins.values():
        given = _option(_layout({**origins, doubtful[0]: REAL}, before))
        every = "" if any(origins.values()) else f", or {_option(f'{before}{ANY}=real')}"
        return f"{given} (it takes {doubtful[0]} for real){every}"
    given = _option(_layout(origins, before))
    shown = ", ".join(doubtful[:_SHOWN]) + (", …" if len(doubtful) > _SHOWN else "")
    return f"{given} (it takes {shown} for generated)" if doubtful else given


def _layout(origins: dict[str, Origin | None], before: str) -> str:
    named = {
        name: origin
        for name, origin in origins.items()
        if origin and not (origin == SYNTHETIC and like_a_generator(name))
    }
    texts = [
        f"{before}{name}" if origin_of(name) == origin else f"{before}{name}={origin}"
        for name, origin in named.items()
    ]
    makers = len(named) < len(origins)
    return ",".join([*texts, f"{before}{GENERATOR}"] if makers else texts)


def _guesses(tree: Sequence[Folders], level: int) -> dict[str, Origin | None]:
    """Name → origin as far as it can be guessed, of the folders of a level."""
    every = {folders[level] for folders in tree if len(folders) > level}
    names = sorted(name for name in every if not {",", "="} & set(name))
    codes = CODES if set(names) == CODES.keys() else {}
    found: dict[str, Origin | None] = {}
    for name in names:
        guess = origin_of(name) or codes.get(name)
        if not guess and (like_a_camera(name) or like_a_generator(name)):
            guess = REAL if like_a_camera(name) else SYNTHETIC
        below = (words_of(one) for one in tree if len(one) > level and one[level] == name)
        origins = {origin for words in below for origin in words.values()}
        found[name] = guess if origins <= {guess} else None
    return found


def _option(layout: str) -> str:
    return f"--layout {shlex.quote(layout)}"
