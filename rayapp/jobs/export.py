"""Export: the files are made, loaded again, compared with the detector, and then written."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from rayapp import load_detector
from rayapp.export.exported import EXACT, HALF, Exported, check, check_one_logit
from rayapp.export.hub_export import export_folder
from rayapp.export.onnx_export import export_onnx
from rayapp.export.push import check_login, push
from rayapp.export.settings import ExportSettings
from rayapp.run import record

PLACEMENT = frozenset({"push"})


def export(settings: ExportSettings) -> record.Run:
    """The detector in its new form, once it is proved to say the same.

    Raises:
        UserError: no such detector, or one for which the form has no place.
        JobFailed: the export differs by more than its bound.
    """
    if settings.push:
        check_login()
    detector = load_detector(settings.detector)
    check_one_logit(detector, settings.detector)
    digest = detector.hash()
    calibration = detector.spec.calibration
    inputs = {"detector": digest, "calibration": calibration.hash if calibration else ""}
    run = record.start(
        "export",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )
    if run.state != "done":
        if settings.to == "onnx":
            made = export_onnx(detector, digest, settings.fp16)
        else:
            made = export_folder(detector, digest)
        bound = HALF if settings.fp16 else EXACT
        with _written(made.files) as folder:
            largest = check(detector, load_detector(folder), bound)
        _keep(run, made, largest, bound)
    if settings.push:
        files = {name: run.store.get(name) for name in run.results["files"]}
        print(f"uploaded: {push(settings.push, files)}")
    return run


def _keep(run: record.Run, made: Exported, largest: float, bound: float) -> None:
    run.claim()
    for name, data in made.files.items():
        run.store.put(name, data)
    results = {
        "largest_difference": largest,
        "bound": bound,
        "files": sorted(made.files),
        "notes": made.notes,
    }
    num_bytes = sum(map(len, made.files.values()))
    run.finish({"files": len(made.files), "bytes": num_bytes}, results, made=tuple(made.files))


@contextlib.contextmanager
def _written(files: Mapping[str, bytes]) -> Iterator[str]:
    """A folder that holds them for a while."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        yield os.fspath(folder)


def print_summary(run: record.Run) -> None:
    """Print what was written, how near it is, and what is not as in the detector."""
    run.print_summary({f"file {at}": name for at, name in enumerate(run.results["files"], 1)})
    print(
        f"  largest difference in probability: {run.results['largest_difference']:.2g} "
        f"(at most {run.results['bound']:g}), on images made for that"
    )
    for note in run.results["notes"]:
        print(f"  mind: {note}")
