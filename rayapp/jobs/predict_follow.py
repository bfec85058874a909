"""Following a folder: look again and again, score what is new, until it is stopped."""

import time
from collections.abc import Callable

from rayapp.cluster.session import kept_open
from rayapp.config.errors import JobFailed, NoInput, NotWritable
from rayapp.jobs.predict import predict
from rayapp.predict.settings import PredictSettings
from rayapp.run.record import Run


def follow(settings: PredictSettings, pause: Callable[[float], None] = time.sleep) -> Run | None:
    """Look until Ctrl-C comes between two looks; the last run, None where nothing ever came.

    Args:
        settings: with `follow_every_s`.
        pause: waits so many seconds.

    Raises:
        UserError: as predict, but that there is nothing yet.
        OSError: the first look could not read or write; later ones say so and are tried again.
    """
    assert settings.follow_every_s is not None
    last: Run | None = None
    is_first = True
    print(f"following {settings.input}, every {settings.follow_every_s:g} s, until Ctrl-C")
    with kept_open():
        while True:
            began = time.monotonic()
            last = _look(settings, is_first=is_first) or last
            is_first = False
            try:
                pause(max(0.0, settings.follow_every_s - (time.monotonic() - began)))
            except KeyboardInterrupt:
                return last


def _look(settings: PredictSettings, *, is_first: bool) -> Run | None:
    """Score what is new, and say how much that was; nothing where there is nothing new."""
    try:
        run = predict(settings, looks_again=not is_first)
    except NoInput:
        return None
    except JobFailed as failure:  # of what is there now; more will come
        print(f"{_time()}  {failure}", flush=True)
        return None
    except (
        OSError,
        NotWritable,
    ) as error:  # a share that is away, a full disk: either may come back
        if is_first:
            raise
        print(f"{_time()}  {error}; tried again", flush=True)
        return None
    if run.state != "done":
        counts = ", ".join(f"{num:,} {word}" for word, num in run.results["verdicts"].items())
        now, failed = run.results["scored_now"], run.counts["failed"]
        print(f"{_time()}  {now:,} scored now; in all {counts}, {failed:,} not scored", flush=True)
    return run


def _time() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
