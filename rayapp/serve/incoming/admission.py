"""How much may be under way at once: images, of each token too, and bytes of bodies."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rayapp.serve.refusals import Refused, busy
from rayapp.serve.settings import Limits

_BODIES = 4  # of the largest size that may be in memory at once
_LONGEST_WAIT_S = 30


@dataclass
class Admission:
    """What is under way in this process; all of it is known to one thread, the event loop's."""

    limits: Limits
    images: int = 0
    body_bytes: int = 0
    seconds_per_image: float = 0.05  # a guess until some were answered
    _of_token: Counter[str] = field(default_factory=Counter)

    @property
    def retry_after_s(self) -> int:
        """Seconds until what is under way is done, as far as known."""
        return max(1, min(round(self.images * self.seconds_per_image), _LONGEST_WAIT_S))

    def require_room(self, count: int = 1) -> None:
        """Nothing where so many images more are likely to be answered in time.

        Raises:
            Refused: the queue is full, or takes longer than a request may.
        """
        if not self.images:
            return  # a request that is alone is always tried
        waits_s = (self.images + count) * self.seconds_per_image
        if self.images + count > self.limits.queue or waits_s > self.limits.timeout_s / 2:
            raise busy(self.retry_after_s)

    @contextlib.contextmanager
    def body(self) -> Iterator["BodyBytes"]:
        """While a body is in memory."""
        counted = BodyBytes(self)
        try:
            yield counted
        finally:
            self.body_bytes -= counted.held

    @contextlib.contextmanager
    def scoring(self, count: int, token: str) -> Iterator[None]:
        """While so many images are scored.

        Raises:
            Refused: 503 where the queue is full, 429 where the token's own share is.
        """
        self.require_room(count)
        mine = self._of_token[token]
        if token and mine and mine + count > self.limits.per_token:
            why = f"this token has {mine} images under way, of {self.limits.per_token} at most"
            raise Refused(429, why, self.retry_after_s)
        self.images += count
        self._of_token[token] += count
        try:
            yield
        finally:
            self.images -= count
            self._of_token[token] -= count

    def took(self, seconds: float, count: int) -> None:
        """Note how long so many images took, waiting included."""
        self.seconds_per_image += 0.1 * (
            seconds / max(self.images, count, 1) - self.seconds_per_image
        )


@dataclass
class BodyBytes:
    """Bytes of one body."""

    admission: Admission
    held: int = 0

    def add(self, count: int) -> None:
        """So many came.

        Raises:
            Refused: all bodies together are more than may be in memory.
        """
        if self.admission.body_bytes + count > _BODIES * self.admission.limits.max_bytes:
            raise busy(self.admission.retry_after_s)
        self.admission.body_bytes += count
        self.held += count
