from __future__ import annotations

import pytest

from edt_cli.reporting.paper_tables import FIGURES, PAIRS, TABLES
from edt_cli.reporting.table import Measure, improvement


def figure(table: int, label: str, place: int) -> float:
    (row,) = (row for row in TABLES[table].rows if row.label == label)
    cell = row.cells[place]
    assert isinstance(cell, Measure)
    return cell.mean


def column(table: int, name: str, group: str = "") -> int:
    (place,) = (n for n, c in enumerate(TABLES[table].columns) if (c.name, c.group) == (name, group))
    return place


@pytest.mark.parametrize(
    ("number", "rows", "columns", "total"),
    [
        (1, 6, 6, 206_189.16),
        (2, 12, 12, 201.2494),
        (3, 8, 4, 22.7731),
        (4, 3, 2, 4.7057),
        (5, 3, 2, 4.6864),
        (6, 1, 3, 294.95),
        (7, 3, 2, 4.6743),
        (8, 2, 4, 6.0005),
        (9, 4, 8, 21.3168),
    ],
)
def test_shape_and_sum(number, rows, columns, total):
    table = TABLES[number]
    assert (len(table.rows), len(table.columns), table.number) == (rows, columns, number)
    cells = [cell.mean for row in table.rows for cell in row.cells if isinstance(cell, Measure)]
    assert sum(cells) == pytest.approx(total, abs=5e-5)


def test_all_nine_tables_are_there():
    assert list(TABLES) == list(range(1, 10))


def test_cells_as_printed():
    shown = {str(cell) for number in (1, 2, 6) for row in TABLES[number].rows for cell in row.cells}
    assert {"9,933", "10.71", "0.8104", "0.2000", "14.67", "98.76"} <= shown
    assert figure(1, "Cell Phone", column(1, "# Items", "After Aug.")) == 3604
    assert figure(2, "SyNCRec", column(2, "N@10", "Food")) == 0.2116
    assert figure(3, "w/o DFT", column(3, "N@10", "Sport")) == 0.6022
    assert figure(9, "LLM4CDSR", column(9, "H@10", "BERT4Rec / Sport")) == 0.7035


def test_average_length_stands_once_a_pair_and_grows_by_the_insertions():
    before, after = column(1, "Avg.len", "Before Aug."), column(1, "Avg.len", "After Aug.")
    grown = {
        row.group: round(row.cells[after].mean - row.cells[before].mean, 2)
        for row in TABLES[1].rows
        if row.cells[after]
    }
    assert grown == {"cloth-sport": 0.33, "elec-phone": 0.21, "food-kitchen": 0.34}
    assert sum(row.cells[before] is None for row in TABLES[1].rows) == 3
    assert [row.label for row in TABLES[1].rows] == [domain for pair in PAIRS.values() for domain in pair]


def test_improvements_follow_from_the_rows():
    """Within what four printed digits allow. Two were cut off, not rounded: the table's note names them."""
    table = TABLES[2]
    *others, ours, printed = table.rows
    followed = improvement(ours, others, "")
    off = []
    for here, there, head in zip(followed.cells, printed.cells, table.columns, strict=True):
        assert isinstance(here, Measure) and isinstance(there, Measure)
        assert here.mean == pytest.approx(there.mean, abs=0.01)
        if round(here.mean, 2) != there.mean:
            off.append((head.group, head.name, round(here.mean, 2)))
    assert off == [("Cloth", "H@10", 2.82), ("Cell Phone", "H@10", 26.97)]
    for group, name, value in off:
        assert f"{value} ({group} {name})" in table.notes[0]


def test_best_and_second_of_table_2():
    marks = {
        row.label: "".join(cell.mark[:1] or "." for cell in row.cells if isinstance(cell, Measure))
        for row in TABLES[2].rows
    }
    assert marks["LLM-EDT"] == "b" * 12
    assert marks["LLM4CDSR"] == "ss......ssss"
    assert marks["LLMCDSR"] == "..ssssss...."
    assert marks["Improv. (%)"] == "." * 12


def test_tables_agree_where_they_say_the_same_and_a_note_says_where_not():
    ours = [figure(2, "LLM-EDT", place) for place in range(4)]
    assert [figure(8, "With DeepSeek", place) for place in range(4)] == ours
    for number, label in ((4, "τ = 0.90"), (5, "k = 10"), (7, "r < 0.9")):
        assert [figure(number, label, place) for place in range(2)] == ours[::2]
    alone = [figure(2, model, place) for model in ("GRU4Rec", "BERT4Rec") for place in range(4)]
    assert [figure(9, "-", place) for place in range(8)] == alone
    ablated = [figure(3, "LLM-EDT", place) for place in range(4)]
    assert all(full > here for full, here in zip(ours, ablated, strict=True))
    assert all(f"{value:.4f}" in TABLES[3].notes[0] for value in [*ours, *ablated])


def test_notes_on_the_text_hold():
    phone = column(2, "H@10", "Cell Phone")
    assert figure(2, "SASRec", phone) > max(figure(2, "C2DSR", phone), figure(2, "TriCDR", phone))
    for domain in ("Sport", "Electronic", "Cell Phone"):
        for metric in ("H@10", "N@10"):
            place = column(2, metric, domain)
            assert figure(2, "LLMCDSR", place) > figure(2, "LLM4CDSR", place)
    assert FIGURES[5].values["best, Cloth"] == (0.7,)
    assert max(FIGURES[5].values["searched (4.1.3)"]) < max(FIGURES[5].values["range (4.6)"])
