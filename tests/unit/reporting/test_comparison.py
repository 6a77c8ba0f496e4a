"""The tables of a plan: what is missing, what a limit ended, and what is claimed."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from edt_cli.reporting.comparison import Claim, Grid, Outcome, Row, comparison_tables
from edt_cli.reporting.render import document, render

GRID = Grid(
    {"shop": ("food", "kitchen")},
    [
        Row("LLM-EDT", "llm-edt", (42,)),
        Row("SASRec", "sasrec", (42,)),
        Row("GRU4Rec", "gru4rec", (42,)),
        Row("Popularity", "popularity", (42,)),
    ],
    "llm-edt",
)


@pytest.fixture
def outcome(result):
    def make(label: str, model: str, gain: float, ended: str = "patience", **given: Any) -> Outcome:
        phase = {"epochs": 9, "best_epoch": 7, "ended": ended, "epoch_seconds": 1.5}
        figures = {"food": (gain + 0.1, gain), "kitchen": (gain, gain)}
        made = result(model, label=label, **figures, **given)
        own = {"phases": {"pre-training": phase}, "cut": ended != "patience", "rank_seconds": 0.25}
        return {**made, **own}

    return make


def claim(domain: str, **given: Any) -> Claim:
    plain = dict.fromkeys(Claim.__annotations__)
    return {**plain, "protocol": "full", "data": "shop", "domain": domain, "method": "LLM-EDT", **given}  # type: ignore


def row(table, label: str) -> list[str]:
    (found,) = [one for one in table.rows if one.label == label]
    return ["" if cell is None else str(cell) for cell in found.cells]


def test_a_missing_cell_is_a_dash_and_one_that_a_limit_ended_is_marked_and_never_best(outcome):
    outcomes = [
        outcome("LLM-EDT", "llm-edt", 0.4),
        outcome("SASRec", "sasrec", 0.5, ended="minutes"),
        outcome("Popularity", "popularity", 0.1),
    ]
    table, costs = comparison_tables(GRID, outcomes, [])
    assert [one.label for one in table.rows] == ["Popularity", "GRU4Rec", "SASRec", "LLM-EDT"]
    assert row(table, "GRU4Rec") == ["–"] * 4
    assert row(table, "SASRec") == ["0.6000†", "0.5000†", "0.5000†", "0.5000†"]
    marks = {one.label: getattr(one.cells[1], "mark", None) for one in table.rows}
    assert marks == {"Popularity": "second", "GRU4Rec": None, "SASRec": "", "LLM-EDT": "best"}
    assert any("could be higher yet" in note for note in table.notes)
    assert any("not there yet" in note for note in table.notes)
    assert row(costs, "SASRec") == ["1,234", "1.50", "9", "7", "minutes", "0.25"]
    assert row(costs, "GRU4Rec") == ["–"] * 6


def test_there_is_an_improvement_only_over_a_best_rival_that_ended_by_itself(outcome):
    ours = outcome("LLM-EDT", "llm-edt", 0.4)
    rivals = [outcome("SASRec", "sasrec", 0.2), outcome("GRU4Rec", "gru4rec", 0.1, ended="epochs")]
    (table, _) = comparison_tables(GRID, [ours, *rivals], [])
    assert row(table, "Improv. (%)")[1] == "100.00"
    rivals[1]["domains"]["food"]["ndcg@10"] = 0.3
    (table, _) = comparison_tables(GRID, [ours, *rivals], [])
    assert row(table, "Improv. (%)") == ["66.67", "", "100.00", "100.00"]


def test_claims_say_what_was_tested_and_which_rivals_they_do_not_speak_of(outcome):
    outcomes = [outcome("LLM-EDT", "llm-edt", 0.4), outcome("SASRec", "sasrec", 0.3, ended="epochs")]
    tested = claim(
        "food", rival="SASRec", difference=0.1, low=0.05, high=0.2, p=0.00001, p_holm=0.002, verdict="better"
    )
    claims = [tested, claim("kitchen", verdict="no claim: the budget ended SASRec")]
    tests = comparison_tables(GRID, outcomes, claims)[1]
    assert row(tests, "food")[1:] == ["SASRec", "–", "0.1000", "0.0500", "0.2000", "<0.0001", "0.0020", "better"]
    assert row(tests, "kitchen")[-1] == "no claim: the budget ended SASRec"
    assert "2 comparisons" in tests.notes[0]
    assert tests.notes[1] == (
        "shop, rivals of which no claim speaks: not there: Popularity, GRU4Rec; ended by a limit: SASRec."
    )


def test_the_mark_is_in_every_form(outcome):
    table = comparison_tables(GRID, [outcome("SASRec", "sasrec", 0.5, ended="epochs")], [])[0]
    assert "0.5000†" in render(table, "markdown")
    assert r"0.5000$\dagger$" in render(table, "latex")
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [line["food N@10 flag"] for line in lines if line["Model"] == "SASRec"] == ["†"]
    cells = [one["cells"] for one in document(table)["rows"] if one["label"] == "SASRec"]
    assert cells[0][1] == {"mean": 0.5, "deviation": None, "n": 1, "mark": None, "flag": "†"}


def test_nothing_there_yet_is_no_table():
    assert comparison_tables(GRID, [], []) == []
