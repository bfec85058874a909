"""A user's own detector: a Python file with `predict(images) -> scores`, run by the same job.

    def predict(images):       # RGB uint8 arrays [H, W, 3], each of its own size
        return [0.1, 0.9]      # a number an image: the probability that it is synthetic

With `LOGITS = True` at the top of the file the numbers are logits. What a model needs is loaded at
the top of the file: it runs once in every worker.
"""

from __future__ import annotations

import math
import os
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri
from rayapp.dataset.images import sha256
from rayapp.models.nothing_to_judge import nothing_to_judge
from rayapp.predict.score_result import Logits, Matrix, Scored
from rayapp.storage.uris import read_uri

if TYPE_CHECKING:
    from rayapp.dataset.images import Box
    from rayapp.models.preprocessing import Pixels

SUFFIX = ".py"
_LARGEST_LOGIT = 36.0  # beyond that a probability is 0 or 1 in float64


@dataclass(frozen=True)
class UserDetector:
    """The file's text; it travels to the workers, which need not have the file."""

    uri: str
    code: bytes

    @property
    def hash(self) -> str:
        """SHA-256 of the text: what the scores are scores of."""
        return sha256(self.code)


def read_user_detector(uri: str) -> UserDetector:
    """Read a user's detector file, without running it.

    Raises:
        UserError: no such file, or no Python.
    """
    code = read_uri(uri)
    try:
        compile(code, uri, "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"{uri}{f':{line}' if line else ''}: not Python: {error}") from None
    if b"def predict" not in code and b"predict =" not in code:
        raise UserError(f"{uri}: defines no predict(images) that gives a score an image")
    return UserDetector(absolute_uri(uri), code)


class UserScorer:
    """Scores by a user's file."""

    preprocessing_hash = ""

    def __init__(self, file: UserDetector, at_once: int | None) -> None:
        self.detector_hash = file.hash
        self.at_once = at_once or 1
        self._name = file.uri.rsplit("/", 1)[-1]
        module = types.ModuleType("own_detector")
        module.__file__ = file.uri
        sys.modules[module.__name__] = module  # dataclasses and pickles look there
        sys.path.insert(0, os.path.dirname(file.uri))  # what lies beside the file, where it is
        exec(compile(file.code, file.uri, "exec"), module.__dict__)  # noqa: S102 - the user's own
        found: Any = getattr(module, "predict", None)
        if not callable(found):
            raise UserError(f"{file.uri}: defines no predict(images) that gives a score an image")
        self._predict: Callable[[list[Pixels]], Any] = found
        self._gives_logits = bool(getattr(module, "LOGITS", False))

    def looks_at(self, size_HW: tuple[int, int]) -> Box:
        """All of it."""
        return 0, 0, *size_HW

    def see(self, pixels_HWC: Pixels, size_HW: tuple[int, int] | None = None) -> Pixels:
        """The whole image [1, H, W, C]."""
        return pixels_HWC[None]

    def nothing_in(self, seen: Pixels, size_HW: tuple[int, int]) -> str:
        """As `nothing_to_judge` finds of whole images."""
        return nothing_to_judge(seen, size_HW, None)

    def map_of(self, scored: Scored, size_HW: tuple[int, int]) -> Matrix | None:
        """None."""
        return None

    def scored(self, seen: Sequence[Pixels]) -> list[Scored]:
        """The file's logits."""
        return [Scored(logits) for logits in self.score(seen)]

    def score(self, seen: Sequence[Pixels]) -> list[Logits]:
        """Logits; probabilities are turned into them. What is no finite number is given on."""
        given = np.asarray(self._predict([one[0] for one in seen]), dtype=np.float64).reshape(-1)
        if len(given) != len(seen):
            raise UserError(
                f"{self._name}: predict gave {len(given)} scores for {len(seen)} images"
            )
        if self._gives_logits:
            return [(float(one),) for one in given]
        wrong = given[np.isfinite(given) & ((given < 0) | (given > 1))]
        if wrong.size:
            raise UserError(
                f"{self._name}: predict gave {wrong[np.argmax(np.abs(wrong - 0.5))]:g}, "
                "a probability is wanted (or set LOGITS = True in the file)"
            )
        return [(_logit(float(one)) if np.isfinite(one) else float(one),) for one in given]


def _logit(p: float) -> float:
    if p in (0.0, 1.0):
        return math.copysign(_LARGEST_LOGIT, p - 0.5)
    return math.log(p) - math.log1p(-p)
