"""The download on Ray: plans as tasks, fetching as Ray Data, one quota governor for the cluster.

The driver holds counts and no images: lists are cut up in pieces, plans and the manifest are made
by tasks, and of the work only sums come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from rayapp.cluster.capacity import demand, workers
from rayapp.cluster.quotas import Quotas, RayGate
from rayapp.cluster.rows_on_ray import worked_on
from rayapp.cluster.session import beside_driver, session
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme, load_scheme
from rayapp.download import ledger, wanted
from rayapp.download.fetch_task import Done, Worker
from rayapp.download.origins.access import Access, scheme_of
from rayapp.download.origins.catalogue import Catalogue, Source, load_catalogue
from rayapp.download.origins.faults import Fault
from rayapp.download.origins.reader import Patience
from rayapp.download.rates import SourceRates
from rayapp.download.settings import PLACEMENT, DownloadSettings
from rayapp.download.source_plan import Planner, SourcePlan, Task
from rayapp.download.source_plan_table import print_source_plans
from rayapp.download.wanted import STATE
from rayapp.run.fingerprint import fingerprint
from rayapp.run.progress import Progress
from rayapp.run.record import Run, digest, start
from rayapp.run.resume import nothing_left
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

MANIFEST = "manifest.parquet"
MISSES = "misses.csv"
_MOST_BLOCKS = 512
_RETRIES = 100  # of a task whose worker died; some are spent before a lost node is known as lost


@dataclass(frozen=True)
class Setup:
    """What every worker needs, small enough to travel."""

    settings: DownloadSettings
    catalogue: Catalogue
    scheme: LabelScheme
    sources: dict[str, Source]
    quotas: Any = field(repr=False)

    def access(self) -> Access:
        """Readers behind the cluster's governor."""

        def gate(origin: str) -> RayGate:
            scheme = scheme_of(origin) if "://" in origin else origin
            return RayGate(
                self.quotas, origin, self.catalogue.origin(scheme).units_per_s is not None
            )

        patience = Patience(attempts=self.settings.attempts, base_s=self.settings.backoff_s)
        return Access(self.catalogue, gate, patience, self.settings.threads)

    def store(self) -> Store:
        """Where images and state go."""
        return open_store(self.settings.output)


def _plan_source(setup: Setup, name: str) -> SourcePlan:
    """Plan one source; what can't be planned is named, image by image."""
    source, limit = setup.sources[name], setup.settings.limit
    access = setup.access()
    planner = Planner(setup.store(), access, setup.scheme, name, source)
    if setup.settings.dry_run:
        return planner.dry(limit)
    lacks = access.lacks(source)
    try:
        if not lacks:
            return planner.make(limit)
        reason = f"missing: {lacks}"
    except Fault as fault:
        reason = fault.reason
    fresh = Planner(setup.store(), access, setup.scheme, name, source)
    return fresh.give_up(limit, reason)


class Fetcher:
    """The actor that Ray Data runs: one `Worker`, kept across tasks."""

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(
            setup.store(), setup.access(), setup.scheme, setup.sources, setup.settings.threads
        )

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """What each task of the block did, as it is done."""
        for row in block.to_pylist():
            for done in self._worker.run(Task(**row)):
                yield pa.Table.from_pylist([done._asdict()])


def _assemble(setup: Setup) -> dict[str, Any]:
    """Write manifest and misses from the ledger; returns the counts."""
    store, schema = setup.store(), ledger.schema(setup.scheme)
    folders = {stat.key.split("/")[2] for stat in store.list(f"{STATE}/ledger/")}
    tables, misses = [], []
    for name in sorted(folders):
        rows = list(ledger.best_rows(store, name).values())
        misses += [row for row in rows if row["status"] != manifest.STATUS_OK]
        tables.append(manifest.from_rows(rows, schema))
    table = pa.concat_tables([*tables, schema.empty_table()]).sort_by("id")
    manifest.write_table(store, MANIFEST, table)
    store.put(MISSES, ledger.misses_csv(sorted(misses, key=lambda row: str(row["path"]))))
    mine = table.filter(pc.is_in(table["source"], pa.array(list(setup.sources))))
    failed = manifest.count_failed(mine)
    hashes = sorted(filter(None, table["sha256"].to_pylist()))
    content = digest(*(sha256.encode() for sha256 in hashes))
    return {"ok": mine.num_rows - failed, "failed": failed, "content": content}


def download(settings: DownloadSettings) -> Run:
    """Fetch what is not there yet; the output may hold other images, and keeps them.

    Raises:
        UserError: wrong settings, lists or catalogue, an output of other settings, or one that
            can't be written.
        JobFailed: the target takes no more (disk full, credentials expired); rerun to go on.
    """
    catalogue = load_catalogue(settings.catalogue)
    sources = catalogue.choose(settings.sources)
    scheme = load_scheme(settings.scheme)
    if not settings.annotations and not all(
        s.files or s.form == "folder" for s in sources.values()
    ):
        raise UserError("--annotations: name the lists whose images are wanted")
    run = _begun(settings)
    outside = wanted.cut_up(run.store, settings.annotations, scheme, sources)
    with session(settings):
        quotas = Quotas.options(scheduling_strategy=beside_driver()).remote(catalogue)  # type: ignore[attr-defined]
        setup = Setup(settings, catalogue, scheme, sources, quotas)
        plans = _plans(setup)
        print_source_plans(catalogue, sources, run.store, plans, outside)
        there = not any(plan.tasks for plan in plans)
        if settings.dry_run or (there and nothing_left(run, retry_failed=True)):
            return run
        run.claim()
        totals = _fetch(setup, plans)
        result: dict[str, Any] = _got(ray.remote(_assemble).options(num_cpus=0.5).remote(setup))
    counts = {"ok": result["ok"], "failed": result["failed"], "outside": outside, **totals}
    run.finish(counts, {"content_sha256": result["content"]}, made=(MANIFEST, MISSES))
    return run


def _begun(settings: DownloadSettings) -> Run:
    """The run at the output; a dry run looks at one of any settings, and leaves it as it is."""
    inputs = {uri: wanted.list_digest(uri) for uri in settings.annotations}
    if settings.dry_run:
        prepared = fingerprint(settings, inputs, PLACEMENT)
        return Run("download", open_store(settings.output), prepared, "new")
    return start(
        "download",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
        adds=True,
    )


def _plans(setup: Setup) -> list[SourcePlan]:
    task = ray.remote(_plan_source).options(num_cpus=0.5)
    plans: list[SourcePlan] = _got([task.remote(setup, name) for name in setup.sources])
    return plans


def _got(references: Any) -> Any:
    """`ray.get`, with the task's own error instead of Ray's."""
    try:
        return ray.get(references)
    except ray.exceptions.RayError as error:
        raise _plain(error) from None


def _fetch(setup: Setup, plans: list[SourcePlan]) -> Mapping[str, float]:
    """Run all tasks; raises JobFailed when the target takes no more."""
    tasks = [task for plan in plans for task in plan.tasks]
    # A stream can't be divided, so it starts first; else sources take turns, each has its quota.
    tasks.sort(key=lambda task: (task.route != "stream", task.key.rpartition("/")[2], task.source))
    total = sum(plan.num_wanted for plan in plans)
    missing = sum(plan.num_missing for plan in plans)
    num_requests = 0
    rates = SourceRates(plans)
    with Progress("download", total) as progress:
        progress.skip(sum(plan.num_present for plan in plans) + missing, missing)
        for done in _stream(setup, tasks):
            if done.fatal:
                raise JobFailed(f"{done.fatal}; the same command goes on from here")
            num_requests += done.num_requests
            rates.add(done)
            progress.update(done.num_done, done.num_failed, rates.note())
        if progress.done != total:
            lost = f"{total - progress.done:,} of {total:,} images are not accounted for"
            raise JobFailed(f"{lost}: their workers died; the same command goes on from here")
    return {"bytes_moved": rates.num_bytes, "requests": num_requests}


def _stream(setup: Setup, tasks: list[Task]) -> Iterator[Done]:
    if not tasks:
        return
    blocks = list(_blocks(tasks))
    fitting, most = workers({"CPU": 1.0}, len(blocks))
    now = min(setup.settings.num_workers or fitting, len(blocks))
    most = min(setup.settings.num_workers or most, len(blocks))
    # Fetching leaves half a CPU to others; on nodes that come for it, it is alone.
    cpus = min(0.5, fitting / (2 * now)) if most <= fitting or setup.settings.num_workers else 1.0
    done = worked_on(
        blocks, Fetcher, (setup,), pool=(now, most), bundle={"CPU": cpus}, retries=_RETRIES
    )
    try:
        with demand({"CPU": cpus}, most - now):
            for row in done.iter_rows():
                yield Done(**row)
    except ray.exceptions.RayError as error:
        raise _plain(error) from None


def _blocks(tasks: list[Task]) -> Iterator[pa.Table]:
    """A stream by itself; of the others a few in one block, for Ray keeps a record of each block.

    Every so-many-th task goes together: neighbours are of sources that have quotas of their own.
    """
    streams = [task for task in tasks if task.route == "stream"]
    others = [task for task in tasks if task.route != "stream"]
    num_blocks = min(len(others), _MOST_BLOCKS)
    for group in [[task] for task in streams] + [others[n::num_blocks] for n in range(num_blocks)]:
        yield pa.Table.from_pylist([asdict(task) for task in group])


def _plain(error: Exception) -> Exception:
    """What a task of Ray raised, as the one line that a user gets."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError | JobFailed):
        return cause
    why = (str(cause or error).strip() or type(error).__name__).splitlines()[-1]
    return JobFailed(f"{why}; the same command goes on from here")
