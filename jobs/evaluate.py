"""Measure detectors on suites, from images or stored scores.

imaginet evaluate --detector DIR… --annotations LIST… --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.evaluate.settings import EvaluateJobSettings


def job(settings: EvaluateJobSettings) -> None:
    """Evaluate, print every table, then say where they are."""
    from rayapp.evaluate.csv_tables import as_text
    from rayapp.evaluate.evaluation_inputs import CSV_FILE
    from rayapp.evaluate.left_out import as_text as left_out_text
    from rayapp.jobs.evaluate import embedding_uris, measure
    from rayapp.metrics.evaluation import EVALUATION_FILE, Results
    from rayapp.run.commands import command

    run = measure(settings)
    results = Results.model_validate_json(run.store.get(EVALUATION_FILE))
    for evaluation in results.evaluations:
        print(f"\n{as_text(evaluation)}")
    if results.left_out:
        print(f"\n{left_out_text(results.left_out)}")
    embeddings = embedding_uris(settings.output, results)
    more = {"embeddings": embeddings} if embeddings else {}
    then = command("report", evaluations=run.store.root, output="DIR", **more)
    places = {"figures": EVALUATION_FILE, "all in one": CSV_FILE, "as published": "tables"}
    run.print_summary(places | ({"changed sides": "changed"} if results.changes else {}), then)


if __name__ == "__main__":
    run_job(EvaluateJobSettings, job, work="rayapp.jobs.evaluate")
