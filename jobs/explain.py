"""Make an evidence sheet per image: one page to hand on.

imaginet explain IMAGE… --detector DIR
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.explain.settings import ExplainSettings


def job(settings: ExplainSettings) -> int:
    """Write the pages, say what each found, and name what could not be read."""
    from rayapp.jobs.explain import explain

    run = explain(settings)
    pages = run.results["verdicts"]
    run.print_summary({"to look at": next(iter(pages))} if len(pages) == 1 else {})
    for page, verdict in pages.items():
        print(f"  {run.store.uri(page)}: {verdict}")
    for line in run.results["failures"]:
        print(f"not explained: {line}")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].startswith("-"):  # the images may stand alone
        given.insert(0, "--image")
    run_job(ExplainSettings, job, given, work="rayapp.jobs.explain")
