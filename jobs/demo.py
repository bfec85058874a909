"""Run the whole pipeline on real photographs, from data to report.

imaginet demo [--photos DIR]
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.demo.settings import DemoSettings


def job(settings: DemoSettings) -> None:
    """Run every step, then say what came out."""
    from rayapp.jobs.demo import METRICS_FILE, run_demo
    from rayapp.jobs.report import REPORT_FILE
    from rayapp.run.record import command, existing
    from rayapp.storage.uris import open_store

    metrics = run_demo(settings)
    store = open_store(settings.output)
    print("\ndemo: all steps are done")
    for part in ("seen", "held_out", "clean_seen"):
        for figure in ("roc_auc", "balanced_accuracy"):
            name = f"{part}_{figure}"
            low, high = metrics[f"{name}_interval"]
            interval = f"  95 % interval {low:.3f} to {high:.3f}" if low is not None else ""
            print(f"  {name:<28} {metrics[name]:.3f}{interval}")
    print(f"  {'report':<28} {existing(store, REPORT_FILE)}")
    print(f"  {'figures':<28} {existing(store, METRICS_FILE)}")
    then = command("predict", detector=existing(store, "detector"), input="FOLDER", output="DIR")
    print(f"next: {then}")


if __name__ == "__main__":
    run_job(DemoSettings, job, work="rayapp.jobs.demo")
