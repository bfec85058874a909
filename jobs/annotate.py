"""Make annotation lists of own images, from their folders or a table.

imaginet annotate --input DIR --output DIR [--layout 'real,synthetic/GENERATOR']
"""

import shlex
from typing import TYPE_CHECKING

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.annotate.settings import AnnotateSettings
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES, run_job

if TYPE_CHECKING:
    from rayapp.run.record import Run


def job(settings: AnnotateSettings) -> int:
    """Annotate, then say how many images went where, and name those that could not."""
    from rayapp.annotate.split import SPLITS
    from rayapp.annotate.written_lists import MANIFEST, SCHEME
    from rayapp.jobs.annotate import annotate

    run = annotate(settings)
    run.print_summary({"lists": "lists", "scheme": SCHEME, "manifest": MANIFEST}, _next(run))
    _describe_reading(run, settings)
    found = run.results["by_generator"]
    width = max(len(row["generator"]) for row in found)
    print(" " * width, *(f"{name:>11}" for name in SPLITS))
    for row in found:
        print(row["generator"].ljust(width), *(f"{row[name]:>11,}" for name in SPLITS))
    _print_named("leak of the published split", run.results.get("leaks", []),
                 run.counts.get("leaks", 0))  # fmt: skip
    _print_named("not annotated", run.results["misses"], run.counts["failed"])
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


def _next(run: "Run") -> str:
    """Training, or the measuring of a detector where there is a test alone."""
    from rayapp.annotate.written_lists import SCHEME
    from rayapp.run.record import command

    lists = run.store.uri("lists")
    common = {"scheme": run.store.uri(SCHEME), "root": run.results["root"]}
    if not run.counts["train"]:
        test = f"{lists}/test.txt"
        return command("evaluate", detector="DETECTOR", annotations=test, **common, output="DIR")
    return command(
        "train",
        config="demo",
        annotations=f"{lists}/train.txt",
        head_annotations=f"{lists}/head.txt",
        **common,
        output="DIR",
    )


def _describe_reading(run: "Run", settings: AnnotateSettings) -> None:
    """Which layout was read, and what became of a published split."""
    if layout := run.results["layout"]:
        how = "" if settings.layout else ", recognised by the folders' names"
        print(f"read as --layout {shlex.quote(layout)}{how}")
    for folder, lists in run.results.get("by_folder", {}).items():
        shares = ", ".join(f"{name} {count:,}" for name, count in lists.items())
        print(f"split kept: {folder or 'elsewhere'} → {shares}")
    if left_out := run.counts.get("left out"):
        print(f"left out of all lists: {left_out:,} images, of held-out generators outside of the "
              "test folder or of a calibration folder and like others")  # fmt: skip
    makers = {row["generator"] for row in run.results["by_generator"]}
    if not run.counts["train"] and (makers == {"real"} or "real" not in makers):
        kind = "real" if makers == {"real"} else "synthetic"
        print(f"all images are {kind}: a test list alone")


def _print_named(what: str, lines: list[str], count: int) -> None:
    for line in lines:
        print(f"{what}: {line}")
    if count > len(lines):
        print(f"{what}: {count:,} in all")


if __name__ == "__main__":
    run_job(AnnotateSettings, job, work="rayapp.jobs.annotate")
