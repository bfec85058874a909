"""Make a perturbed test set that is the same on any machine.

python jobs/perturb.py --annotations LIST… --root URI --output URI --protocol imaginet-test
"""

from rayapp.perturb.pipeline import PerturbSettings, perturb
from rayapp.perturb.preview import PREVIEW
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def main(settings: PerturbSettings) -> int:
    """Perturb, then say what was done, where it is and what comes next."""
    run = perturb(settings)
    store, counts, results = run.store, run.counts, run.results
    print(f"\n{'variant':<16}{'written':>10}{'too small':>12}")
    for name, count in results["variants"].items():
        print(f"{name:<16}{count['ok']:>10,}{count['skipped']:>12,}")
    print(f"\n{counts['in']:,} images in, {counts['failed']:,} failed")
    for miss in results["misses"]:
        print(f"  {miss}")
    if counts["failed"] > len(results["misses"]):
        print(f"  … all of them: rows with status failed in {store.uri('manifest.parquet')}")
    print(f"pixels    {results['pixels_sha256']} (equal where every pixel of the set is)")
    print(f"images    {store.root}")
    print(f"manifest  {store.uri('manifest.parquet')}")
    print(f"lists     {store.uri('lists')}")
    if settings.preview:
        print(f"preview   {store.uri(PREVIEW)}")
    lists = " ".join(store.uri(key) for key in results["lists"][:4])
    print(f"next      python jobs/predict.py --annotations {lists} --root {store.root}")
    return EXIT_MISSES if counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PerturbSettings, main)
