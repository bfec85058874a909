"""Score images online: an HTTP service with a page, on Ray Serve.

imaginet serve --detector DIR
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import parse_settings, run_job
from rayapp.serve.settings import ServeSettings


def job(settings: ServeSettings) -> None:
    """Serve; or only add a token, or write the config for a cluster."""
    if settings.add_token:
        from rayapp.serve.incoming.tokens import add_token

        print(add_token(str(settings.tokens), settings.add_token))
        return
    from rayapp.jobs import serve

    if settings.write_config:
        serve.write_config(settings)
    else:
        serve.serve(settings, lambda: parse_settings(ServeSettings, sys.argv[1:], "imaginet serve"))


if __name__ == "__main__":
    run_job(ServeSettings, job, work="rayapp.jobs.serve")
