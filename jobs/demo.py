"""Run the whole pipeline on real photographs, from data to report.

imaginet demo [--photos DIR] [--realset DIR] [--web]
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.demo.settings import DemoSettings


def job(settings: DemoSettings) -> int:
    """Run every step, then say what came out."""
    from rayapp.jobs.demo import METRICS_FILE, note, run_demo
    from rayapp.jobs.report import REPORT_FILE
    from rayapp.run.commands import command
    from rayapp.run.record import existing
    from rayapp.storage.uris import open_store

    metrics = run_demo(settings)
    store = open_store(settings.output)
    print("\ndemo: all steps are done")
    shown = [name for name in metrics if f"{name}_interval" in metrics]
    width = max(map(len, shown))
    for name in shown:
        low, high = metrics[f"{name}_interval"]
        interval = f"  95 % interval {low:.3f} to {high:.3f}" if low is not None else ""
        print(f"  {name:<{width}} {metrics[name]:.3f}{interval}")
    print(note(settings).replace("`", ""))
    print(f"  {'report':<{width}} {existing(store, REPORT_FILE)}")
    print(f"  {'figures':<{width}} {existing(store, METRICS_FILE)}")
    then = command("predict", detector=existing(store, "detector"), input="FOLDER", output="DIR")
    print(f"next: {then}")
    for line in metrics.get("not_judged", ()):
        print(f"not judged: {line}")
    return EXIT_MISSES if "not_judged" in metrics else EXIT_DONE


if __name__ == "__main__":
    run_job(DemoSettings, job, work="rayapp.jobs.demo")
