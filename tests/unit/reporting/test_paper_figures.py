"""Figures 1, 3, 4, 5 and 6 from results, and the paper's tables and figures beside ours."""

from __future__ import annotations

import pytest

from edt_cli.config import UserError
from edt_cli.reporting.beside_paper import ONLY, PAPER, PROTOCOL, beside_paper, figure_beside_paper
from edt_cli.reporting.figure_data import as_table
from edt_cli.reporting.paper_figures import (
    Nearness,
    Placed,
    State,
    Timed,
    Weighed,
    figure_1,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
)
from edt_cli.reporting.paper_tables import TABLES
from edt_cli.reporting.table import Column, Measure, Row, Table
from edt_cli.reporting.tables import table_2, table_3

LLM = "local (no LLM)"


@pytest.fixture
def grouped(result):
    """A result with HR@10 of two groups of users by their total, in one domain."""

    def make(model: str, short: float, long: float, **fields):
        total = {
            "[0,5)": {"food": {"users": 3, "hr@10": short, "ndcg@10": short / 2}},
            "[20,inf)": {"food": {"users": 7, "hr@10": long, "ndcg@10": long / 2}},
        }
        return result(model, food=(0.5, 0.3), groups={"total": total}, **fields)

    return make


def test_figure_1_has_the_bins_of_each_state_and_the_share_of_one_domain_users():
    edges = [0.0, 0.5, 0.9, 1.0]
    figure = figure_1("shop", edges, [State("before", [1, 2, 7]), State("LLM-EDT", [4, 3, 3])])
    (panel,) = figure.panels
    assert figure.heading == "Figure 1. Users by r on shop"
    assert panel.series[0].x == ("0.0-0.5", "0.5-0.9", "0.9-1.0")
    assert [[value.mean for value in series.y] for series in panel.series] == [[1, 2, 7], [4, 3, 3]]
    assert "70.0% (before), 30.0% (LLM-EDT)" in figure.notes[1]


def test_figure_3_has_the_same_places_before_and_after():
    kinds = [Placed("food", [(0.0, 1.0), (2.0, 3.0)], False), Placed("inserted, food", [(5.0, 5.0)], True)]
    figure = figure_3("shop", kinds, [Nearness("food", 2, 0.1, 0.25, 1, None)], ["A note."])
    before, after = figure.panels
    assert before.series == after.series[:1] and after.series[1].label == "inserted, food"
    (row,) = as_table(figure).rows
    assert [None if cell is None else str(cell) for cell in row.cells] == ["2", "10.0", "25.0", "1", None]


def test_figure_4_is_of_its_systems_in_their_order_and_says_which_is_missing(grouped):
    results = [
        grouped("llm-edt", 0.4, 0.6, label="LLM-EDT", seed=42),
        grouped("llm-edt", 0.2, 0.6, label="LLM-EDT", seed=44),
        grouped("sasrec", 0.9, 0.9),
        grouped("llmcdsr", 0.1, 0.5, label="LLMCDSR"),
    ]
    (figure,) = figure_4(results)
    (panel,) = figure.panels
    assert [series.label for series in panel.series] == ["LLMCDSR", "LLM-EDT"]
    assert panel.counts == (3, 7) and panel.series[1].x == ("[0,5)", "[20,inf)")
    short = panel.series[1].y[0]
    assert short is not None and (short.mean, short.n) == (pytest.approx(0.3), 2)
    assert any("Not there yet: w/o Aug." in note for note in figure.notes)
    (of_ndcg,) = figure_4(results, "ndcg@10")
    assert of_ndcg.panels[0].series[0].y[1] == Measure(0.25) and of_ndcg.y.label == "N@10"


def test_figure_4_flags_what_a_limit_ended_and_asks_for_its_runs(grouped, result):
    (figure,) = figure_4([{**grouped("llm-edt", 0.4, 0.6), "cut": True}])
    assert figure.panels[0].series[0].y[0] == Measure(0.4, flag="†") and figure.notes[-2].startswith("†")
    with pytest.raises(UserError, match="edt reproduce figure-4"):
        figure_4([grouped("sasrec", 0.4, 0.6)])
    with pytest.raises(UserError, match="evaluated before users were grouped"):
        figure_4([grouped("llm-edt", 0.4, 0.6), result("llmcdsr", food=(0.5, 0.3))])
    with pytest.raises(UserError, match="no run has this metric"):
        figure_4([grouped("llm-edt", 0.4, 0.6)], "mrr@3")


def test_figure_5_joins_runs_that_differ_in_alpha_alone(result):
    def run(alpha: float, hit: float, series: str = "LLM-EDT", seed: int = 42) -> Weighed:
        name = f"{series}-{alpha}-{seed}"
        return Weighed(result("llm-edt", food=(hit, 0.1), run=name, seed=seed, label=name), alpha, series)

    runs = [run(0.3, 0.4), run(0.1, 0.2), run(0.3, 0.6, seed=44), run(0.7, 0.9, "LLM-EDT (best)")]
    (figure,) = figure_5(runs)
    (series,) = figure.panels[0].series
    assert (series.label, series.x) == ("LLM-EDT", (0.1, 0.3))
    assert [value and round(value.mean, 3) for value in series.y] == [0.2, 0.5]
    with pytest.raises(UserError, match="differ in alpha alone"):
        figure_5(runs[-1:])
    with pytest.raises(UserError, match="are both"):
        figure_5([*runs, runs[0]])


def test_figure_6_has_a_point_a_system_and_names_those_without_parameters(result):
    runs = [
        Timed(result("llm-edt", food=(0.5, 0.3), parameters=2000), 1.5),
        Timed(result("sasrec", food=(0.5, 0.3), parameters=1000), 0.5),
        Timed(result("popularity", food=(0.5, 0.3), parameters=0), 0.1),
    ]
    figure = figure_6(runs, "how")
    assert [(s.label, s.x, s.y) for s in figure.panels[0].series] == [
        ("sasrec", (1000.0,), (Measure(0.5, digits=3),)),
        ("llm-edt", (2000.0,), (Measure(1.5, digits=3),)),
    ]
    assert figure.notes == ("how", "Without parameters, and so not here: popularity.")
    with pytest.raises(UserError, match="there is no run of one"):
        figure_6(runs[-1:], "how")


def beside(table: Table) -> dict[str, list[str]]:
    """The paper's cells by row of ours, of a table with its columns to the right."""
    first = next(n for n, column in enumerate(table.columns) if column.group.startswith(PAPER))
    return {row.label: ["" if cell is None else str(cell) for cell in row.cells[first:]] for row in table.rows}


def test_table_2_has_the_columns_of_the_same_pair(result):
    results = [
        result("sasrec", food=(0.5, 0.3), kitchen=(0.4, 0.2), label="SASRec (sasrec-ce)"),
        result("llm-edt", food=(0.6, 0.4), kitchen=(0.5, 0.3), label="LLM-EDT (best)", llm=LLM),
        result("popularity", food=(0.1, 0.1), kitchen=(0.1, 0.1), label="Popularity"),
    ]
    (table,) = table_2(results)
    joined = beside_paper(table)
    assert [c.group for c in joined.columns[4:]] == ["Paper / Food"] * 2 + ["Paper / Kitchen"] * 2
    shown = beside(joined)
    assert shown["SASRec (sasrec-ce)"] == ["0.3250", "0.2078", "0.4211", "0.3208"]
    assert shown[f"LLM-EDT (best), {LLM}"] == ["0.4349", "0.3109", "0.5406", "0.4236"]
    assert shown["Improv. (%)"] == ["9.38", "15.06", "10.30", "12.42"]
    assert shown["Popularity"] == [""] * 4
    only = [row for row in joined.rows if row.group == ONLY]
    assert len(only) == 9 and not any(row.compared or any(row.cells[:4]) for row in only)
    assert [row.cells[:4] for row in joined.rows if row.group != ONLY] == [row.cells for row in table.rows]
    assert PROTOCOL in joined.notes and any("cut off, not rounded" in note for note in joined.notes)


def test_table_3_finds_each_ablation_and_no_row_for_two_at_once(result):
    variants = ("", "w/o Aug.", "w/o Filtering", "Random Inserting", "w/o Aug., w/o DFT")
    results = [result("llm-edt", food=(0.5, 0.3), label="LLM-EDT (paper)", variant=v, llm=LLM) for v in variants]
    (table,) = table_3(results)
    shown = beside(beside_paper(table))
    assert shown[f"LLM-EDT (paper), {LLM}"][0] == "0.8078" and shown["w/o Aug. (paper)"][0] == "0.7919"
    assert shown["w/o Filtering (paper)"][0] == "0.7724" and shown["Random Inserting (paper)"][0] == "0.7842"
    assert shown["w/o Aug., w/o DFT (paper)"] == [""] * 4


@pytest.mark.parametrize(
    ("number", "labels", "first"),
    [
        (4, ("τ calibrated", "τ calibrated − 0.05", "τ calibrated + 0.05"), ("0.8104", "0.8078", "0.8066")),
        (5, ("K = C = 10", "K = 5", "C = 15"), ("0.8104", "0.8099", "0.7924")),
        (7, ("any r", "r ≥ 0.9", "r ≥ 0.95"), ("0.8104", "0.8035", "0.7945")),
        (9, ("GRU4Rec", "LLM-EDT on BERT4Rec", "LLM-EDT on SASRec"), ("0.5632", "0.8113", "")),
    ],
)
def test_rows_of_other_tables_that_have_another_name_in_the_paper(number, labels, first):
    rows = tuple(Row(f"{label}, {LLM}", (Measure(0.1),)) for label in labels)
    shown = beside(beside_paper(Table("T", (Column("H@10", "food"),), rows, number=number)))
    assert tuple(shown[f"{label}, {LLM}"][0] for label in labels) == first


@pytest.mark.parametrize("number", [1, 6])
def test_tables_of_the_same_columns_have_the_papers_rows_below(number):
    paper = TABLES[number]
    ours = Table("T", paper.columns, (Row("ours", paper.rows[0].cells, "mine"),), number=number)
    joined = beside_paper(ours)
    assert joined.columns == paper.columns and len(joined.rows) == 1 + len(paper.rows)
    assert all(row.group.startswith(PAPER) for row in joined.rows[1:])


def test_every_table_of_the_paper_finds_all_of_its_own_rows():
    for number in (2, 3, 4, 5, 7, 8):
        paper = TABLES[number]
        joined = beside_paper(
            Table("T", (Column("H@10", "x"),), tuple(Row(r.label, (None,)) for r in paper.rows), number=number)
        )
        assert len(joined.rows) == len(paper.rows), number


def test_a_table_of_no_number_stays_and_a_figure_tells_what_the_paper_says():
    table = Table("T", (Column("H@10"),), ())
    assert beside_paper(table) is table
    figure = figure_beside_paper(figure_1("shop", [0.0, 0.9, 1.0], [State("before", [1, 2])]))
    assert figure.notes[-1] == "Paper: Users by r, Cloth - Sport; bin of most users 0.9-1."
