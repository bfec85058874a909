"""Measure detectors on suites, from images or stored scores.

imaginet evaluate --detector DIR… --annotations LIST… --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.evaluate.settings import EvaluateJobSettings


def job(settings: EvaluateJobSettings) -> int:
    """Evaluate, print every table, then say where they are."""
    from rayapp.evaluate import case_changes, csv_tables, left_out
    from rayapp.jobs.evaluate import embedding_uris, measure, places_of
    from rayapp.metrics.evaluation import read_results
    from rayapp.run.commands import command

    run = measure(settings)
    results = read_results(run.store)
    for evaluation in results.evaluations:
        print(f"\n{csv_tables.as_text(evaluation)}")
    if results.left_out:
        print(f"\n{left_out.as_text(results.left_out)}")
    for cases in results.regressions:
        print(f"\n{case_changes.as_text(cases)}")
    embeddings = embedding_uris(settings.output, results)
    more = {"embeddings": embeddings} if embeddings else {}
    then = command("report", evaluations=run.store.root, output="DIR", **more)
    run.print_summary(places_of(results), then)
    return EXIT_MISSES if any(cases.failed for cases in results.regressions) else EXIT_DONE


if __name__ == "__main__":
    run_job(EvaluateJobSettings, job, work="rayapp.jobs.evaluate")
