"""Why a request is not answered, by status: one line, and when to come again."""


class Refused(Exception):
    """A request is not answered.

    Attributes:
        status: of HTTP.
        why: one line, which names what, and what to do.
        retry_after_s: seconds after which it may be tried again; None: not as it is.
    """

    def __init__(self, status: int, why: str, retry_after_s: int | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after_s = status, why, retry_after_s

    def __reduce__(self) -> tuple[type["Refused"], tuple[int, str, int | None]]:
        """Whole, as it goes from one process to another."""
        return type(self), (self.status, self.why, self.retry_after_s)


def bad_request(why: str) -> Refused:
    """What is asked can't be understood or is over a limit of a request."""
    return Refused(422, why)


def too_large(max_bytes: int) -> Refused:
    """A body over the limit."""
    return Refused(
        413, f"the body is larger than {max_bytes / 1e6:g} MB; send fewer images at once"
    )


def busy(retry_after_s: int) -> Refused:
    """The service has as much under way as it takes."""
    return Refused(503, "as many images are under way as the service takes", retry_after_s)


def too_slow(seconds: float, retry_after_s: int) -> Refused:
    """No answer within the time of a request."""
    return Refused(503, f"no answer within {seconds:g} s; the service is loaded", retry_after_s)
