import numpy as np
import pytest

from rayapp.metrics.measure import Measure
from rayapp.pages.blocks import Cell, KeyValues, Notice, Overlay, Picture, Prose, Table, breakable


def test_cells_show_values_intervals_and_reasons() -> None:
    table = Table(
        ["name", "n", "auc", "share"],
        [
            ["a", 12345, Measure(0.91234, 0.9, 0.92), 0.5],
            ["b", 7, Measure(None, reason="no synthetic items"), None],
            ["c", 8, Measure(0.5, reason="no interval: one group"), 0.25],
        ],
        formats={"share": ".1%"},
    )
    first, second, third = table.cells
    assert [cell.text for cell in first] == ["a", "12,345", "0.912", "50.0%"]
    assert first[2] == Cell("0.912", "[0.900, 0.920]", 0.91234, 0.9, 0.92)
    assert second[2:] == [Cell("–", reason="no synthetic items"), Cell("–")]
    assert third[2] == Cell("0.500", value=0.5, reason="no interval: one group")
    assert table.numeric == [False, True, True, True]


def test_a_column_of_words_and_numbers_is_not_numeric() -> None:
    assert Table(["a"], [[1], ["x"]]).numeric == [False]
    assert Table(["a"], []).numeric == [False]


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="row 2: 1 cells, 2 columns"):
        Table(["a", "b"], [[1, 2], [1]])
    with pytest.raises(ValueError, match="'c'"):
        Table(["a"], [[1]], formats={"c": ".1f"})


def test_prose_marks_up_code_and_links_and_escapes_the_rest() -> None:
    text = "Run `a<b>`.\n\nSee [the paper](https://arxiv.org/abs/1), not [x](javascript:alert(1))."
    first, second = Prose(text).paragraphs
    assert first == "Run <code>a&lt;b&gt;</code>."
    assert second.startswith('See <a href="https://arxiv.org/abs/1">the paper</a>, not [x](java')
    assert Notice('"<script>').markup == "&#34;&lt;script&gt;"
    quoted = Notice('[x](https://a"onclick="b)').markup
    assert 'onclick="' not in quoted


def test_key_values_show_numbers_and_booleans() -> None:
    cells = KeyValues({"n": 1000, "ok": True, "none": None}).cells
    assert [(name, cell.text) for name, cell in cells] == [
        ("n", "1,000"),
        ("ok", "yes"),
        ("none", "–"),
    ]


def test_all_of_a_picture_is_in_a_box_or_dimmed_once() -> None:
    boxes = [(0.0, 0.0, 0.5, 0.4), (0.25, 0.3, 0.75, 0.7), (0.5, 0.6, 1.0, 1.0)]
    overlay = Overlay(40, 100, boxes)
    shade = np.zeros((40, 100), int)
    for x, y, width, height in overlay.dimmed:
        shade[round(y) : round(y + height), round(x) : round(x + width)] += 1
    for x, y, width, height in overlay.outlined:
        shade[round(y) : round(y + height), round(x) : round(x + width)] -= 10
    assert shade.max() == 1
    assert ((shade == 1) | (shade < 0)).all()
    assert (shade < 0).sum() == (20 * 40) + (20 * 40) + (20 * 40) - (10 * 10) - (10 * 10)
    assert Overlay(40, 100, [(0.0, 0.0, 1.0, 1.0)]).dimmed == []
    assert Overlay(40, 100, [(0.0, 0.0, 1.0, 0.6), (0.0, 0.5, 1.0, 1.0)]).dimmed == []


def test_a_path_breaks_behind_its_separators_and_is_escaped() -> None:
    shown = Picture("", "", path="a_b/<c> & d-e.png").shown_path
    assert shown == "a_<wbr>b/<wbr><strong>&lt;c&gt; &amp; d-<wbr>e.png</strong>"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "images/real/some_name-2.final.png",
            ["images/", "real/", "some_", "name-", "2.", "final.png"],
        ),
        ("0123456789abcdef0123", ["01234567", "89abcdef0123"]),
        ("f" * 64, ["f" * 8] * 8),
        ("0.912 [0.900, 0.920]", ["0.912 [0.900, 0.920]"]),
        ("internationalisations", ["internationalisations"]),
        ("a/path/<b>/of-many-parts", ["a/", "path/&lt;b&gt;/", "of-", "many-", "parts"]),
        ("with\0a NUL", ["witha NUL"]),
    ],
)
def test_long_names_may_wrap_between_their_parts_only(text: str, parts: list[str]) -> None:
    assert breakable(text).split("<wbr>") == parts


def test_a_path_as_code_may_wrap_too() -> None:
    (found,) = Prose("`runs/demo/detector/model.safetensors` & `<b>`").paragraphs
    assert found == (
        '<code class="long">runs/<wbr>demo/<wbr>detector/<wbr>model.<wbr>safetensors</code> &amp; '
        "<code>&lt;b&gt;</code>"
    )
