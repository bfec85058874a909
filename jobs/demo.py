"""The whole pipeline on real photographs, from data to report: `python jobs/demo.py`."""

from rayapp.config.settings import run_job
from rayapp.demo.settings import DemoSettings
from rayapp.jobs.demo import METRICS_FILE, run_demo
from rayapp.jobs.report import REPORT_FILE
from rayapp.run.record import command
from rayapp.storage.uris import open_store


def job(settings: DemoSettings) -> None:
    """Run every stage, then say what came out."""
    metrics = run_demo(settings)
    store = open_store(settings.output)
    print("\ndemo: all stages are done")
    for name in ("seen_roc_auc", "held_out_roc_auc", "clean_seen_roc_auc"):
        low, high = metrics[f"{name}_interval"]
        interval = f"  95 % interval {low:.3f} to {high:.3f}" if low is not None else ""
        print(f"  {name:<18} {metrics[name]:.3f}{interval}")
    print(f"  report             {store.uri(REPORT_FILE)}")
    print(f"  figures            {store.uri(METRICS_FILE)}")
    then = command("predict", detector=store.uri("detector"), input="FOLDER", output="DIR")
    print(f"next: {then}")


if __name__ == "__main__":
    run_job(DemoSettings, job)
