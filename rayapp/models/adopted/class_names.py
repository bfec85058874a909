"""Which of a classifier's classes mean synthetic, by the words of their names."""

import re
from collections.abc import Iterator, Mapping, Sequence

from rayapp.config.errors import UserError

_SYNTHETIC_WORDS = """
ai aigc aigen artificial artificially fake fakes faked deepfake deepfakes generated generative gen
synthetic synthesized synthesised synth machine inauthentic computer diffusion diffusions latent ldm
gan gans stylegan progan biggan cyclegan stargan gaugan midjourney mj dall dalle stable sd sdxl flux
firefly imagen ideogram glide gpt gemini grok kandinsky vqdm wukong adm playground pixart seedream
recraft
"""
_REAL_WORDS = """
real reals human humans hum authentic natural nature genuine organic bonafide pristine camera
"""
# They say what a picture is of or in: only alone do they say that it is real.
_WEAK_WORDS = "photo photos photograph photographs photography photographic"
_LIKE = "realistic realism like style styled"  # beside such a word: what only looks so
_NEGATING_WORDS = """
not non no never nor neither without isn isnt wasn aren doesn didn don hasn free
"""
_SYNTHETIC, _REAL, _WEAK, _NEGATIONS = (
    frozenset(words.split())
    for words in (_SYNTHETIC_WORDS, _REAL_WORDS, _WEAK_WORDS, _NEGATING_WORDS)
)
_PREFIXES = ("not", "non", "no", "un")
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def synthetic_classes(
    labels: Sequence[str], where: str, given: Sequence[str] = (), *, several: bool = True
) -> tuple[int, ...]:
    """Indices of the classes that mean synthetic; of a sole class none where it means real.

    Args:
        labels: names of the classes.
        where: names the detector.
        given: names, or indices, that the user says mean synthetic; else the words decide.
        several: whether the classes exclude each other, so that some have to mean real.

    Raises:
        UserError: the words do not tell, or what is given is none of the classes.
    """
    if given:
        return _given(labels, where, given)
    meant = [means_synthetic(label) for label in labels]
    unclear = [label for label, one in zip(labels, meant, strict=True) if one is None]
    alike = len(labels) > 1 and (not any(meant) or (several and all(meant)))
    if unclear or alike:
        shown = ", ".join(map(repr, labels[:8])) + (", …" if len(labels) > 8 else "")
        raise UserError(
            f"{where}: which of its classes mean synthetic is not clear from their names "
            f"({shown}): name them, --synthetic-labels NAME…, or behind the detector's own name, "
            "…#synthetic=NAME (in Python load_detector(…, synthetic_labels=[…]))"
        )
    return tuple(index for index, one in enumerate(meant) if one)


def means_synthetic(label: str) -> bool | None:
    """What a class's name says: True synthetic, False real, None nothing clear."""
    found = set(_meanings(label))
    strong = {one for one, weak in found if not weak}
    if len(strong) == 1:
        return strong.pop()
    if strong or not found:
        return None
    words = [part.lower() for part in _PARTS.findall(label)]
    if any(word in _LIKE.split() for word in words):  # "photo-realistic render"
        return None
    weak_meanings = {one for one, _ in found}
    # "photo" alone is real; what "no photo" is, nobody knows.
    return False if weak_meanings == {False} else None


def _meanings(label: str) -> Iterator[tuple[bool, bool]]:
    """What each word means, as it is negated, and whether that is weak."""
    words = [part.lower() for part in _PARTS.findall(label)]
    negated: bool | None = None  # the meaning that is being turned round
    turning = False
    for at, word in enumerate(words):
        follows = word == "free" and at > 0  # "AI-free", unlike "free of AI"
        if word in _NEGATIONS and not follows:
            turning, negated = True, None
            continue
        meaning, weak = _meaning(word)
        if meaning is None:
            continue
        freed = at + 1 < len(words) and words[at + 1] == "free"
        if turning and negated in (None, meaning):  # "not AI generated" turns both words round
            negated = meaning
            yield not meaning, weak
        else:
            turning = False
            yield meaning != freed, weak


def _meaning(word: str) -> tuple[bool | None, bool]:
    """Of one word, True synthetic; and whether it is a weak one."""
    if word in _SYNTHETIC:
        return True, False
    if word in _REAL:
        return False, False
    if word in _WEAK:
        return False, True
    for prefix in _PREFIXES:
        rest = word.removeprefix(prefix)
        if rest != word and rest in _SYNTHETIC | _REAL:
            return rest not in _SYNTHETIC, False
    if word.startswith("ai") and word[2:] in _SYNTHETIC:
        return True, False
    return None, False


def _given(labels: Sequence[str], where: str, given: Sequence[str]) -> tuple[int, ...]:
    known: Mapping[str, int] = {label.casefold(): index for index, label in enumerate(labels)}
    numbers = {str(index): index for index in range(len(labels))}
    found = []
    for name in given:
        index = known.get(name.casefold(), numbers.get(name))
        if index is None:
            raise UserError(
                f"{where}: no class {name!r} (its classes: {', '.join(map(repr, labels))})"
            )
        found.append(index)
    if len(labels) > 1 and len(set(found)) == len(labels):
        raise UserError(f"{where}: synthetic_labels names all of its classes; none is left as real")
    return tuple(sorted(set(found)))
