"""Marks of reviews: their forms, what each stands for, and what is refused."""

from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.marks import read_marks

HEAD = "path,mark,verdict,stratum,stratum_images,all_images"


def written(folder: Path, lines: list[str], name: str = "marks.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return str(folder / name)


def test_an_image_stands_for_its_share_of_its_stratum(tmp_path: Path) -> None:
    lines = [
        '"a, b.png",real,real,drawn,900,1000',
        "./c.png,synthetic,real,drawn,900,1000",
        "d.png,unclear,real,drawn,900,1000",
        "e.png,synthetic,unsure,shown,100,1000",
    ]
    found = read_marks([written(tmp_path, [HEAD, *lines])])
    assert found.origins == {"a, b.png": 0, "c.png": 1, "e.png": 1}
    assert found.weights == {"a, b.png": 450, "c.png": 450, "e.png": 100}
    assert (found.num_unclear, found.counts, found.warnings) == (1, (1, 2), ())


def test_marks_that_stand_for_a_part_alone_are_refused_or_told(tmp_path: Path) -> None:
    shown = "a.png,real,real,shown,100,1000"
    with pytest.raises(UserError, match="stand for 100 of 1,000 images alone; mark some of every"):
        read_marks([written(tmp_path, [HEAD, shown])])
    found = read_marks([written(tmp_path, [HEAD, "b.png,synthetic,real,drawn,950,1000"])])
    assert found.warnings[0].endswith("of 50 of 1,000 images none was marked")


def test_a_list_that_does_not_say_how_it_was_chosen_needs_to_be_told(tmp_path: Path) -> None:
    forms = {
        "plain.csv": ["a.png,0", "b, c.png,1"],
        "old.csv": ["path,mark,verdict", "a.png,real,real", '"b, c.png",synthetic,real'],
    }
    for name, lines in forms.items():
        uri = written(tmp_path, lines, name)
        with pytest.raises(UserError, match="does not say how its images were chosen"):
            read_marks([uri])
        found = read_marks([uri], "uniform")
        assert found.origins == {"a.png": 0, "b, c.png": 1}
        assert set(found.weights.values()) == {1}


def test_two_reviews_add_up_and_may_not_contradict(tmp_path: Path) -> None:
    one = written(tmp_path, [HEAD, "a.png,real,real,drawn,10,10"], "one.csv")
    two = written(tmp_path, [HEAD, "a.png,real,real,drawn,30,30", "b.png,real,x,drawn,30,30"], "2")
    assert read_marks([one, two]).weights == {"a.png": 25, "b.png": 15}
    other = written(tmp_path, [HEAD, "a.png,synthetic,real,drawn,10,10"], "other.csv")
    with pytest.raises(
        UserError, match=r"a\.png: marked synthetic in .*other\.csv, not so in .*one"
    ):
        read_marks([one, other])


def test_a_mark_counts_once_however_often_it_is_listed(tmp_path: Path) -> None:
    """A review that was saved twice, half way and at its end."""
    half = [HEAD, "a.png,real,real,drawn,40,40"]
    whole = [*half, "b.png,real,real,drawn,40,40", "b.png,real,real,drawn,40,40"]
    one, two = written(tmp_path, half, "one.csv"), written(tmp_path, whole, "two.csv")
    assert read_marks([two]).weights == {"a.png": 20, "b.png": 20}
    with pytest.raises(UserError, match=r"marks of the same review as .*one\.csv; give"):
        read_marks([one, two])
    assert read_marks([one, two], "uniform").weights == {"a.png": 1, "b.png": 1}


def test_a_spreadsheet_may_have_saved_the_table_with_semicolons(tmp_path: Path) -> None:
    lines = [HEAD, "a.png,real,real,drawn,10,10"]
    uri = written(tmp_path, [line.replace(",", ";") for line in lines])
    assert read_marks([uri]).weights == {"a.png": 10}


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    uri = written(tmp_path, [HEAD, f'"{"a" * 200_000}'])
    with pytest.raises(UserError, match=r"marks\.csv: line 2: field larger than"):
        read_marks([uri])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,maybe,real,drawn,10,10", "row 2: mark 'maybe' is not real, synthetic or unclear"),
        ("../a.png,real,real,drawn,10,10", "row 2: path '../a.png' leaves the root"),
        ("a.png,real,real,drawn,many,10", "row 2: stratum_images and all_images are whole numbers"),
        ("a.png,real", "does not say how its images were chosen"),
        ("a.png,unclear,real,drawn,10,10", "no image is marked real or synthetic"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        read_marks([written(tmp_path, [HEAD, line])])
    assert message in str(told.value)
    assert "\n" not in str(told.value)
