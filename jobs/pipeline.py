"""Run a whole benchmark, from its sources to the report.

imaginet pipeline --config imaginet --output URI [--plan]
"""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.pipelines.benchmark import BenchmarkSettings, Places, exit_code, run_benchmark
from rayapp.pipelines.forecast import forecast, told
from rayapp.settings import EXIT_DONE, run_job


def job(settings: BenchmarkSettings) -> int:
    """Say what it will take; unless that is all, run every stage and say where things are."""
    print(told(forecast(settings), settings), flush=True)
    if settings.plan:
        return EXIT_DONE
    outcomes = run_benchmark(settings)
    at = Places(settings)
    print("\npipeline: all stages are done")
    print(f"  report    {at.at('report')}/report.html")
    print(f"  figures   {at.at('evaluation')}/metrics.json")
    print(f"  detector  {at.at('detector')}")
    return exit_code(outcomes)


if __name__ == "__main__":
    run_job(BenchmarkSettings, job)
