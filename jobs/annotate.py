"""Make annotation lists of own images, from their folders or a table.

python jobs/annotate.py --input DIR --layout 'real,synthetic/GENERATOR' --output DIR
"""

from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.split import SPLITS
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES, run_job
from rayapp.jobs.annotate import MANIFEST, SCHEME, annotate
from rayapp.run.record import command


def job(settings: AnnotateSettings) -> int:
    """Annotate, then say how many images went where, and name those that could not."""
    run = annotate(settings)
    lists, scheme = run.store.uri("lists"), run.store.uri(SCHEME)
    root = settings.root or settings.input
    run.print_summary(
        {"lists": "lists", "scheme": SCHEME, "manifest": MANIFEST},
        command(
            "train",
            config="demo",
            scheme=scheme,
            annotations=f"{lists}/train.txt",
            head_annotations=f"{lists}/head.txt",
            root=root,
            output="DIR",
        ),
    )
    found = run.results["by_generator"]
    width = max(len(row["generator"]) for row in found)
    print(" " * width, *(f"{name:>11}" for name in SPLITS))
    for row in found:
        print(row["generator"].ljust(width), *(f"{row[name]:>11,}" for name in SPLITS))
    for line in run.results["misses"]:
        print(f"not annotated: {line}")
    if run.counts["failed"] > len(run.results["misses"]):
        print(f"not annotated: {run.counts['failed']:,} in all")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(AnnotateSettings, job)
