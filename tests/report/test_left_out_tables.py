from rayapp.metrics.evaluation import Figure, LeftOut
from rayapp.metrics.measure import Measure
from rayapp.report.left_out_tables import left_out_table


def row(name: str, detector: str, auc: float | None) -> LeftOut:
    figure = Figure(value=auc, low=0.1, high=0.9) if auc is not None else Figure(reason="one class")
    return LeftOut(
        suite="folder",
        column="source",
        name=name,
        detector=detector,
        num_real=20,
        num_synthetic=50,
        roc_auc=figure,
        balanced_accuracy=Figure(value=0.5),
    )


def test_the_lowest_come_first_and_what_has_no_figure_last() -> None:
    rows = [row("phone", "a", 0.9), row("press", "b", None), row("shop", "a", 0.6)]
    table = left_out_table(rows)
    assert table.columns[0] == "source of real images"
    assert [cells[0] for cells in table.rows] == ["shop", "phone", "press"]
    assert table.rows[0][4] == Measure(0.6, 0.1, 0.9)
    assert table.rows[2][4] == Measure(None, reason="one class")
