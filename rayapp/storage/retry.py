"""How often a request is tried and how long is waited in between: one policy for all that fetches.

Pauses are drawn with full jitter, by tenacity: M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import tenacity

T = TypeVar("T")


@dataclass(frozen=True)
class Tries:
    """So many attempts; before attempt n + 1 a pause between 0 and min(cap, base · 2^(n - 1)) s."""

    attempts: int = 8
    base_s: float = 0.5
    cap_s: float = 60.0

    def call(
        self,
        once: Callable[[], T],
        again: Callable[[BaseException], bool],
        asked_s: Callable[[BaseException], float | None] = lambda error: None,
    ) -> T:
        """What `once` returns; what the last attempt raised is raised.

        Args:
            once: an attempt.
            again: whether another one can mend what was raised.
            asked_s: the pause that a server asked for, in place of a drawn one; None: drawn.
        """
        return self._policy(again, asked_s)(once)

    def each(
        self,
        again: Callable[[BaseException], bool],
        asked_s: Callable[[BaseException], float | None] = lambda error: None,
    ) -> Iterator[tenacity.AttemptManager]:
        """The attempts one by one, for work that yields on its way: `for one in …: with one: …`."""
        return iter(self._policy(again, asked_s))

    def _policy(
        self,
        again: Callable[[BaseException], bool],
        asked_s: Callable[[BaseException], float | None],
    ) -> tenacity.Retrying:
        drawn = tenacity.wait_random_exponential(multiplier=self.base_s, max=self.cap_s)

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = asked_s(error) if error else None
            return drawn(state) if asked is None else asked

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=pause,
            retry=tenacity.retry_if_exception(again),
            reraise=True,
        )
