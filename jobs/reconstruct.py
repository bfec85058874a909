"""Give each real image a partner that went through an autoencoder.

imaginet reconstruct --root PHOTOS --autoencoder taef2 --output runs/pairs
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.reconstruct.settings import ReconstructSettings


def job(settings: ReconstructSettings) -> int:
    """Make the pairs, then say how they were aligned, and name what could not be made."""
    from rayapp.jobs.reconstruct import reconstruct
    from rayapp.reconstruct.pair_sheet import PREVIEW
    from rayapp.reconstruct.written import MANIFEST, SCHEME, TABLE
    from rayapp.run.commands import command

    run = reconstruct(settings)
    lists = [run.store.uri(key) for key in run.results["lists"]]
    where = {"manifest": MANIFEST} | ({"lists": "lists"} if lists else {})
    where |= {"preview": PREVIEW} if settings.preview and lists else {}
    run.print_summary(
        where | {"table": TABLE, "scheme": SCHEME},
        command(
            "audit",
            annotations=lists[0] if lists else "LIST",
            root=run.store.root,
            scheme=run.store.uri(SCHEME),
            output="DIR",
        ),
    )
    for said, count in run.results["alignment"].items():
        print(f"  {count:>7,} partners  {said}")
    for said, count in run.results["left_out"].items():
        print(f"  {count:>7,} left out  {said}")
    if paths := run.results["left_out_paths"]:
        print(f"left out: {', '.join(paths)}{' …' * (run.counts['left out'] > len(paths))}")
    misses = run.results["misses"]
    for line in misses:
        print(f"no pair: {line}")
    if run.counts["failed"] > len(misses):
        more = run.counts["failed"] - len(misses)
        print(f"no pair: {more:,} more, the rows with status failed in {run.store.uri(MANIFEST)}")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(ReconstructSettings, job, work="rayapp.jobs.reconstruct")
