import csv
import io
from typing import Any

import numpy as np
import pytest

from rayapp.dataset import manifest, scores
from rayapp.models.verdicts import Judge
from rayapp.predict.csv_sheet import Sheet
from tests.models.test_verdicts import calibration


def sheet(rows: list[dict[str, Any]], judge: Judge, variants: bool = False) -> Sheet:
    """A sheet of rows that came by two at a time."""
    made = Sheet(judge, io.BytesIO(), variants)
    table = manifest.from_rows(rows, scores.schema())
    for at in range(0, table.num_rows, 2):
        made.add(table.slice(at, 2))
    return made


def read(made: Sheet) -> list[dict[str, str]]:
    text = b"".join(made.lines()).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def row(name: str, logit: float | None, **facts: Any) -> dict[str, Any]:
    error = "" if logit is not None else "empty file (0 bytes)"
    return {"id": name, "path": name, "logit": logit, "error": error, **facts}


def test_csv_keeps_every_row_and_quotes_odd_names():
    rows = [row('odd, "name".jpg', 0.5), row("b.jpg", None)]
    found = {line["path"]: line for line in read(sheet(rows, Judge("centre-32")))}
    assert set(found) == {'odd, "name".jpg', "b.jpg"}
    scored, failed = found['odd, "name".jpg'], found["b.jpg"]
    assert scored["verdict"] == "synthetic (uncalibrated)"
    assert scored["preprocessing"] == "centre-32"
    assert (failed["probability"], failed["error"]) == ("", "empty file (0 bytes)")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0.jpg", "+1.png", "-x.png", "@sum.png"])
def test_a_spreadsheet_finds_no_formula_in_a_name(name: str):
    (line,) = read(sheet([row(name, 0.5)], Judge("centre-32")))
    assert line["path"] == f"./{name}"
    (line,) = read(sheet([row(f"@f/{name.replace('/', '')}", 0.5)], Judge("centre-32")))
    assert (line["folder"], line["file"]) == ("./@f", f"./{name.replace('/', '')}")


def test_of_several_classes_the_likeliest_and_its_lead():
    rows = [
        {"id": "a", "path": "a.jpg", "logits": [0.0, 2.0, 1.0], "error": ""},
        {"id": "b", "path": "b.jpg", "error": "text, not an image"},
    ]
    found = read(sheet(rows, Judge("centre-32", classes=("GAN", "SD", "MJ"))))
    p = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert (found[0]["verdict"], found[0]["logit"]) == ("SD", "2")
    assert float(found[0]["probability"]) == pytest.approx(p[1], abs=1e-6)
    assert float(found[0]["margin"]) == pytest.approx(p[1] - p[2], abs=1e-6)
    assert found[1]["verdict"] == ""


def test_variants_have_a_column_where_there_are_some():
    rows = [row("a.jpg", 0.5, variant="jpeg") | {"id": "a@jpeg"}]
    assert read(sheet(rows, Judge("centre-32"), variants=True))[0]["variant"] == "jpeg"


ROWS = [
    row("a/real.jpg", -3.0),
    row("a/sure.jpg", 4.0, width=640, height=480, bytes=12_345, format="JPEG"),
    row("b/c/unsure.jpg", 0.0),
    row("broken.jpg", None),
    row("less real.jpg", -2.0),
    row("synthetic.jpg", 2.0),
]


def test_what_wants_a_look_stands_first():
    made = sheet(ROWS, Judge("centre-32", calibration()))
    assert [line["file"] for line in read(made)] == [
        "sure.jpg",
        "synthetic.jpg",
        "unsure.jpg",
        "broken.jpg",
        "less real.jpg",
        "real.jpg",
    ]
    assert made.first(2) == ["a/sure.jpg (p 0.982)", "synthetic.jpg (p 0.881)"]
    assert [one.partition(" (")[0] for one in made.first(9)] == [
        "a/sure.jpg",
        "synthetic.jpg",
        "b/c/unsure.jpg",
    ]


def test_a_line_has_folder_name_size_and_format():
    first = read(sheet(ROWS, Judge("centre-32", calibration())))[0]
    assert (first["folder"], first["file"], first["format"]) == ("a", "sure.jpg", "JPEG")
    assert (first["width"], first["height"], first["bytes"]) == ("640", "480", "12345")


def test_excel_takes_the_file_for_utf8():
    made = sheet([row("снимок 写真 é.jpg", 1.0)], Judge("centre-32"))
    data = b"".join(made.lines())
    assert data.startswith(b"\xef\xbb\xbf")
    assert "снимок 写真 é.jpg" in data.decode()


def test_a_name_with_a_line_break_stays_one_row():
    made = sheet([row("two\nlines.jpg", 3.0), row("b.jpg", 2.0)], Judge("centre-32"))
    assert [line["file"] for line in read(made)] == ["two\nlines.jpg", "b.jpg"]
    assert made.first(1) == ["two\nlines.jpg (p 0.953)"]
