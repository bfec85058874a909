"""Evaluation from images, on a made-up dataset in the published layout (the real lists, cut)."""

import csv
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.packaged import shipped_names
from rayapp.evaluate.settings import EvaluateJobSettings
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.jobs.evaluate import embedding_uris, measure
from rayapp.jobs.report import report
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Labels, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.report.settings import ReportSettings
from rayapp.run.record import Run
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector
from tests.evaluate.published_set import GROUPS, cut, draw, lines, write

IMAGINET = ("imaginet", "imaginet-content", "imaginet-model")


def identifier(folder: Path) -> str:
    """A network of random weights with one output a generator group."""
    torch.manual_seed(3)
    head = HeadSettings(hidden=0, num_outputs=4)
    options = {"width": 8, "depth": 2}
    architecture = Architecture(backbone="highpass-small", options=options, head=head)
    network = build_network(architecture).eval()
    spec = DetectorSpec(
        architecture=architecture,
        strides=network.encoder.backbone.strides(),
        preprocessing=Preprocessing(size=32),
        labels=Labels(column="generator", classes=("GAN", "SD", "Midjourney", "DALL-E 3")),
    )
    save_detector(Detector(network, spec), open_store(folder))
    return str(folder)


def made(published: Path, folder: Path, rows: int, *, whole: bool = False) -> Path:
    """Lists and images; unless `whole`, the unperturbed ones are few."""
    lists = cut(published, folder / "lists", rows)
    few = folder / "few"
    few.mkdir()
    for group in GROUPS:
        name = f"test_annotations_{group}.txt"
        write(few / name, lines(lists / name)[:: max(1, rows // 32)])
        (lists / name).rename(folder / name)  # aside: no images are drawn for these
    draw(folder, lists)
    draw(folder, few)
    if whole:
        draw(folder, folder)
    for group in GROUPS:
        (folder / f"test_annotations_{group}.txt").rename(lists / f"test_annotations_{group}.txt")
    return folder


def settings(root: Path, output: Path, **more: object) -> EvaluateJobSettings:
    return EvaluateJobSettings(
        root=str(root),
        output=str(output),
        resamples=100,
        embedding=0,
        **more,  # type: ignore[arg-type]
    )


def results(run: Run) -> Results:
    return Results.model_validate_json(run.store.get(EVALUATION_FILE))


def scored_rows(folder: str) -> list[str]:
    """Every row of every score table: one forward pass each."""
    files = sorted(Path(folder).rglob("scores.parquet"))
    return [row for file in files for row in pq.read_table(file)["path"].to_pylist()]


@pytest.mark.ray
def test_all_imaginet_tables_cost_one_pass_an_image(published: Path, tmp_path: Path):
    root = made(published, tmp_path / "set", 96)
    detector = saved_detector(tmp_path / "d")
    common = {"detector": detector, "protocol": "legacy", "scores": (str(tmp_path / "scores"),)}
    run = measure(settings(root, tmp_path / "out", suite=IMAGINET, **common))
    rows = scored_rows(str(tmp_path / "scores"))
    assert (
        len(rows)
        == len(set(rows))
        == len(
            {
                line.rsplit(",", 4)[0]
                for name in (*(f"test_{g}" for g in GROUPS), "test_calibration")
                for line in lines(root / "lists" / f"{name}.txt")
            }
        )
    )
    found = results(run)
    assert [one.suite for one in found.evaluations] == list(IMAGINET)
    for one in found.evaluations:
        assert "of them in the test set" in one.calibration
        assert one.mean is not None
        assert one.mean.published["roc_auc"] > 0.9
    table = list(csv.reader((tmp_path / "out/tables/imaginet-content/d.csv").open()))
    assert table[0] == ["Content Type", "ACC", "AUC"]
    assert [line[0] for line in table[1:]] == [
        "Photos",
        "Paintings",
        "Faces",
        "Uncategorised",
        "Mean",
    ]
    # Another protocol, other tables: nothing is scored again.
    again = measure(
        settings(root, tmp_path / "clean", suite=IMAGINET[:1], **common | {"protocol": "clean"})
    )
    assert scored_rows(str(tmp_path / "scores")) == rows
    told = results(again).evaluations[0]
    assert any("calibration images and their repeats" in note for note in told.notes)


@pytest.mark.slow
@pytest.mark.ray
def test_what_is_gone_is_named(published: Path, tmp_path: Path):
    """One image, one score, one list."""
    root = made(published, tmp_path / "set", 96)
    common = {
        "detector": saved_detector(tmp_path / "d"),
        "protocol": "legacy",
        "scores": (str(tmp_path / "scores"),),
    }
    first = root / lines(root / "lists/test_gan.txt")[0].split(",")[0]
    shutil.move(first, tmp_path / "away")
    with pytest.raises(UserError, match=rf"1 images could not be scored; first: \S*{first.name}"):
        measure(settings(root, tmp_path / "o2", suite="imaginet", **common))
    shutil.move(tmp_path / "away", first)
    measure(settings(root, tmp_path / "o2", suite="imaginet", **common))  # only that one is scored
    assert min(map(len, scored_tables(tmp_path))) == 1
    stored = dict(common, scores=(str(tmp_path / "scores"),))
    for file in (tmp_path / "scores").rglob("scores.parquet"):
        table_ = pq.read_table(file)
        keep = [not path.endswith(first.name) for path in table_["path"].to_pylist()]
        pq.write_table(table_.filter(keep), file)
    alone = EvaluateJobSettings(
        suite="imaginet",
        lists=str(root / "lists"),
        output=str(tmp_path / "o3"),
        resamples=100,
        **stored,  # type: ignore[arg-type]
    )
    with pytest.raises(UserError, match=rf"1 of \d+ images have no score; first: \S*{first.name}"):
        measure(alone)
    (root / "lists/test_sd.txt").unlink()
    with pytest.raises(UserError, match=r"test_sd\.txt: no such file"):
        measure(settings(root, tmp_path / "o4", suite="imaginet", **common))


def scored_tables(folder: Path) -> list[list[str]]:
    files = sorted((folder / "scores").rglob("scores.parquet"))
    return [pq.read_table(file)["path"].to_pylist() for file in files]


@pytest.mark.slow
@pytest.mark.ray
def test_the_guard_reads_images_of_the_suites(published: Path, tmp_path: Path):
    """The published calibration images are refused, also under other names."""
    root = made(published, tmp_path / "set", 96)
    detector = saved_detector(tmp_path / "d")
    copies = root / "copies"
    copies.mkdir()
    listed = []
    for number, line in enumerate(lines(root / "lists/test_calibration.txt")):
        path, labels = line.split(",", 1)
        shutil.copy(root / path, copies / f"{number}.webp")
        listed.append(f"copies/{number}.webp,{labels}")
    write(root / "copied.txt", listed)
    common = {"detector": detector, "root": str(root), "suite": ("imaginet",)}
    refused = {
        "lists/test_calibration.txt": r"imaginet \(\d+ by path",
        "copied.txt": r"imaginet \(\d+ by sha256",
    }
    for annotations, where in refused.items():
        with pytest.raises(UserError, match=rf"\d+ of 80 calibration images are in .*{where}"):
            calibrate_from_images(
                CalibrateJobSettings(
                    annotations=str(root / annotations),
                    output=str(tmp_path / "no"),
                    **common,  # type: ignore[arg-type]
                )
            )
    run = calibrate_from_images(
        CalibrateJobSettings(
            annotations=str(root / "lists/test_calibration.txt"),
            output=str(tmp_path / "legacy"),
            protocol="legacy",
            **common,
        )  # type: ignore[arg-type]
    )
    assert sum(run.results["leaked"].values()) > 0
    with pytest.raises(UserError, match="calibration images are in suite imaginet, which"):
        measure(
            settings(root, tmp_path / "out", detector=str(tmp_path / "legacy"), suite="imaginet")
        )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_every_suite_gives_its_table(published: Path, tmp_path: Path):
    root = made(published, tmp_path / "set", 400, whole=True)
    detectors = (
        saved_detector(tmp_path / "a"),
        saved_detector(tmp_path / "b", 1),
        identifier(tmp_path / "id"),
    )
    suites = [name for name in shipped_names("configs/suites") if name != "folder"]
    for protocol in ("legacy", "clean"):
        plain = [name for name in suites if not name.startswith("robustness")]
        run = measure(
            settings(
                root,
                tmp_path / protocol,
                detector=detectors,
                suite=tuple(plain),
                protocol=protocol,
                scores=(str(tmp_path / "scores"),),
            )
        )
        sweeps = [name for name in suites if name.startswith("robustness")]
        swept = measure(
            settings(
                root,
                tmp_path / f"{protocol}-sweeps",
                detector=detectors[1:],
                suite=tuple(sweeps),
                protocol=protocol,
                lists=str(root / "few"),
                scores=(str(tmp_path / "scores"),),
            )
        )
        for one in [*results(run).evaluations, *results(swept).evaluations]:
            table = list(
                csv.reader(
                    (
                        Path(run.store.root if not one.axis else swept.store.root)
                        / f"tables/{one.suite}/{one.detector_name}.csv"
                    ).open()
                )
            )
            assert len(table) == len(one.table) + 1
            assert all(row[1] and row[2] for row in table[1:]), (one.suite, one.detector_name)
        made_ = {(one.suite, one.task) for one in results(swept).evaluations}
        assert made_ == {(n, task) for n in sweeps for task in ("origin", "identification")}
    rows = scored_rows(str(tmp_path / "scores"))
    assert rows
    page = report(
        ReportSettings(
            evaluations=(str(tmp_path / "legacy"), str(tmp_path / "clean-sweeps")),
            output=str(tmp_path / "page"),
        )
    )
    assert page.counts["evaluations"] > 10


@pytest.mark.slow
@pytest.mark.ray
def test_folder_suite_and_features(published: Path, tmp_path: Path):
    root = made(published, tmp_path / "set", 48)
    asked = EvaluateJobSettings(
        root=str(root),
        output=str(tmp_path / "out"),
        resamples=100,
        embedding=20,
        detector=saved_detector(tmp_path / "d"),
        annotations=str(root / "lists/test_gan.txt"),
    )
    run = measure(asked)
    (found,) = results(run).evaluations
    assert found.calibration.startswith("none")
    (uri,) = embedding_uris(str(tmp_path / "out"), results(run))
    placed = pq.read_table(Path(uri, "embedding.parquet"))
    assert placed.column_names == ["path", "x", "y"]
    assert 8 <= placed.num_rows <= 20
    page = report(
        ReportSettings(evaluations=run.store.root, embeddings=uri, output=str(tmp_path / "page"))
    )
    assert "Features" in page.store.get("report.html").decode()

    other = {"output": str(tmp_path / "smaller"), "view_size": 24, "embedding": 0}
    (smaller,) = results(measure(asked.model_copy(update=other))).evaluations
    assert (smaller.view, found.view) == ("centre, 24 px", "centre, 32 px")
    assert smaller.detector_name == found.detector_name
    assert smaller.detector_hash != found.detector_hash
    assert (tmp_path / "smaller-seen" / smaller.detector_name / "detector.json").is_file()

    shutil.rmtree(root / "testset")
    with pytest.raises(JobFailed, match="none of"):
        measure(asked.model_copy(update={"output": str(tmp_path / "gone")}))
