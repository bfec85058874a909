"""Run a whole benchmark, from its sources to the report.

imaginet benchmark --config imaginet --output URI [--estimate]
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.benchmark.settings import BenchmarkSettings
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE


def job(settings: BenchmarkSettings) -> int:
    """Say what it will take; unless that is all, run every step and say where things are."""
    from rayapp.jobs.benchmark import Places, exit_code, run_benchmark
    from rayapp.jobs.benchmark_estimate import estimate, format_estimate

    print(format_estimate(estimate(settings), settings), flush=True)
    if settings.estimate:
        return EXIT_DONE
    outcomes = run_benchmark(settings)
    at = Places(settings)
    print("\nbenchmark: all steps are done")
    print(f"  report    {at.at('report')}/report.html")
    print(f"  figures   {at.at('evaluation')}/metrics.json")
    print(f"  detector  {at.at('detector')}")
    return exit_code(outcomes)


if __name__ == "__main__":
    run_job(BenchmarkSettings, job, work="rayapp.jobs.benchmark")
