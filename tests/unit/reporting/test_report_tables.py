from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edt_cli.config import UserError
from edt_cli.reporting.table import Column, Measure, Row, Table, improvement, mark_best
from edt_cli.reporting.tables import free_tables, group_tables, table_1, table_2, table_3

LOCAL = "local (no LLM)"
values = st.floats(0, 1, allow_subnormal=False)


def labels(table: Table) -> list[tuple[str, str]]:
    return [(row.group, row.label) for row in table.rows]


def heads(table: Table) -> list[tuple[str, str]]:
    return [(column.group, column.name) for column in table.columns]


def cells(table: Table, label: str) -> list[str]:
    (row,) = (row for row in table.rows if row.label == label)
    return ["" if cell is None else str(cell) for cell in row.cells]


def marks(table: Table, place: int = 0) -> list[str]:
    return [getattr(row.cells[place], "mark", "") for row in table.rows]


def one_column(*figures: float | None, groups: str = "") -> Table:
    rows = [
        Row(str(number), (None if figure is None else Measure(figure),), groups[number : number + 1])
        for number, figure in enumerate(figures)
    ]
    return Table("t", (Column("H@10", ranked=True),), tuple(rows))


@given(st.lists(values, min_size=2, max_size=5))
def test_mean_and_sample_deviation(seeds):
    measure = Measure.over(seeds)
    assert measure.mean == pytest.approx(sum(seeds) / len(seeds))
    assert measure.deviation == pytest.approx(statistics.stdev(seeds))
    assert measure.n == len(seeds)


def test_a_single_seed_has_no_deviation_and_none_no_cell():
    assert Measure.over([0.5]) == Measure(0.5, None, 1)
    assert Measure.over([]) is None


@pytest.mark.parametrize(
    ("measure", "shown"),
    [
        (Measure(0.81041, 0.00123, 3), "0.8104±.0012"),
        (Measure(0.81041), "0.8104"),
        (Measure(1234567, digits=0), "1,234,567"),
        (Measure(7144, 0.0, 3, digits=0), "7,144"),
        (Measure(7144, 1.4, 3, digits=0), "7,144±1"),
        (Measure(12.5, 10.25, 2, digits=2), "12.50±10.25"),
        (Measure(-3.1, digits=2), "-3.10"),
    ],
)
def test_how_a_measure_is_shown(measure, shown):
    assert str(measure) == shown


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((0.1, 0.3, 0.2), ["", "best", "second"]),
        ((0.3, 0.3, 0.2, 0.1), ["best", "best", "second", ""]),
        ((0.3, 0.2, 0.2), ["best", "second", "second"]),
        ((0.30001, 0.30004, 0.2), ["best", "best", "second"]),
        ((None, 0.2, 0.1), ["", "best", "second"]),
        ((None, 0.2), ["", ""]),
        ((0.2, 0.2), ["best", "best"]),
        ((None, None), ["", ""]),
        ((), []),
    ],
)
def test_best_and_second_by_what_is_shown(figures, expected):
    assert marks(mark_best(one_column(*figures))) == expected


def test_best_within_groups():
    table = mark_best(one_column(0.1, 0.2, 0.9, 0.8, groups="aabb"), within_groups=True)
    assert marks(table) == ["second", "best", "best", "second"]


@given(st.lists(st.none() | values, max_size=6))
def test_marks_against_a_slow_reading(figures):
    shown = [None if figure is None else float(f"{figure:.4f}") for figure in figures]
    present = sorted({figure for figure in shown if figure is not None}, reverse=True)
    alone = sum(figure is not None for figure in shown) < 2
    expected = [
        ""
        if alone or figure is None
        else "best"
        if figure == present[0]
        else "second"
        if figure == present[1]
        else ""
        for figure in shown
    ]
    assert marks(mark_best(one_column(*figures))) == expected


def test_columns_where_more_is_not_better_have_no_marks():
    table = Table("t", (Column("Pop@10"),), one_column(0.1, 0.2).rows)
    assert not mark_best(table).marked


def test_improvement_over_the_best_other_that_has_the_cell():
    def row(*figures: float | None) -> Row:
        return Row("x", tuple(None if figure is None else Measure(figure) for figure in figures))

    gain = improvement(
        row(0.6, 0.6, None, 0.6, 0.1), [row(0.5, None, 0.2, None, 0.2), row(0.4, 0.5, 0.3, 0.0, None)], "g"
    )
    assert [None if cell is None else round(cell.mean, 6) for cell in gain.cells] == [20.0, 20.0, None, None, -50.0]
    assert gain.compared is False


def test_table_2_orders_groups_averages_and_leaves_cells_empty(result):
    runs = [
        result("llm-edt", label="LLM-EDT", llm=LOCAL, food=(0.6, 0.4), kitchen=(0.5, 0.3), seed=seed)
        for seed in (42, 44)
    ]
    runs[1]["domains"]["food"]["hr@10"] = 0.64
    runs += [
        result("elsewhere", label="Own", food=(0.1, 0.1), kitchen=(0.1, 0.1)),
        result("llmcdsr", label="LLMCDSR", food=(0.55, 0.35), kitchen=(0.2, 0.1)),
        result("sasrec", label="SASRec", food=(0.5, 0.3), kitchen=(0.55, 0.3)),
        result("item-knn", label="Item-kNN", food=(0.3, 0.2), kitchen=(0.3, 0.2)),
        result("popularity", label="Popularity", food=(0.2, 0.1), kitchen=(0.2, 0.1)),
        result("llm-edt", label="LLM-EDT", variant="w/o DFT", llm=LOCAL, food=(0.9, 0.9), kitchen=(0.9, 0.9)),
    ]
    runs[2]["domains"]["kitchen"]["ndcg@10"] = None
    (table,) = table_2(runs)
    assert table.heading == "Table 2. Overall performance on shop: test, full ranking"
    assert labels(table) == [
        ("Simple", "Popularity"),
        ("Simple", "Item-kNN"),
        ("SRS", "SASRec"),
        ("LLMESR", "LLMCDSR"),
        ("Other", "Own"),
        ("Ours", "LLM-EDT, local (no LLM)"),
        ("", "Improv. (%)"),
    ]
    assert heads(table) == [("food", "H@10"), ("food", "N@10"), ("kitchen", "H@10"), ("kitchen", "N@10")]
    assert cells(table, "LLM-EDT, local (no LLM)") == [
        "0.6200±.0283",
        "0.4000±.0000",
        "0.5000±.0000",
        "0.3000±.0000",
    ]
    assert cells(table, "Own") == ["0.1000", "0.1000", "0.1000", ""]
    assert cells(table, "Improv. (%)") == ["12.73", "14.29", "-9.09", "0.00"]
    assert marks(table, 0) == ["", "", "", "second", "", "best", ""]
    assert marks(table, 3) == ["", "second", "best", "", "", "best", ""]
    assert table.notes == (
        "Mean ± sample deviation over seeds. Seed 42: Popularity; Item-kNN; SASRec; LLMCDSR; Own. "
        "Seeds 42, 44: LLM-EDT, local (no LLM).",
        "Users: food 10, kitchen 10.",
    )


def test_table_2_keeps_protocols_and_splits_apart(result):
    runs = [
        result("sasrec", food=(0.5, 0.3)),
        result("sasrec", food=(0.8, 0.6), protocol="sampled", negatives=100),
        result("sasrec", food=(0.7, 0.5), protocol="sampled", negatives=999),
        result("sasrec", food=(0.4, 0.2), keep_seen=True),
        result("sasrec", food=(0.6, 0.4), split="valid"),
    ]
    tables = table_2(runs)
    assert [(table.title.partition(": ")[2], cells(table, "sasrec")[0]) for table in tables] == [
        ("test, full ranking", "0.5000"),
        ("test, 100 sampled negatives", "0.8000"),
        ("test, 999 sampled negatives", "0.7000"),
        ("test, full ranking, seen items among the candidates", "0.4000"),
        ("valid, full ranking", "0.6000"),
    ]


def test_datasets_stand_side_by_side_and_synthetic_data_says_so(result):
    runs = [
        result("sasrec", food=(0.5, 0.3), seed=42),
        result("sasrec", data="demo", synthetic=True, books=(0.9, 0.8), films=(0.7, 0.6), seed=42),
        result("gru4rec", data="demo", synthetic=True, books=(0.8, 0.7), films=(0.6, 0.5), seed=42),
    ]
    (table,) = table_2(runs)
    assert table.title == "Overall performance on shop, demo (synthetic): test, full ranking"
    assert [column.group for column in table.columns[::2]] == [
        "shop / food",
        "demo (synthetic) / books",
        "demo (synthetic) / films",
    ]
    assert cells(table, "gru4rec") == ["", "", "0.8000", "0.7000", "0.6000", "0.5000"]
    (alone,) = table_2(runs[1:])
    assert "demo (synthetic)" in alone.title


def test_each_llm_edt_has_its_improvement(result):
    runs = [
        result("sasrec", food=(0.4, 0.3)),
        result("llm-edt", label="LLM-EDT", llm=LOCAL, food=(0.5, 0.3)),
        result("llm-edt", label="LLM-EDT", llm="deepseek-chat", food=(0.6, 0.3)),
    ]
    (table,) = table_2(runs)
    assert cells(table, "Improv. of LLM-EDT, local (no LLM) (%)")[0] == "25.00"
    assert cells(table, "Improv. of LLM-EDT, deepseek-chat (%)")[0] == "50.00"
    (alone,) = table_2(runs[1:])
    assert len(alone.rows) == 2


def test_table_3_has_the_papers_names_and_order(result):
    names = ["w/o S-R-A", "w/o Aug., w/o DFT", "Random Inserting", "w/o Aug.", "", "w/o DFT", "w/o Filtering"]
    runs = [result("llm-edt", label="LLM-EDT", variant=name, llm=LOCAL, food=(0.5, 0.3)) for name in names]
    runs.append(result("sasrec", food=(0.5, 0.3)))
    (table,) = table_3(runs)
    assert table.heading == "Table 3. Ablation study of LLM-EDT, local (no LLM), on shop: test, full ranking"
    assert [row.label for row in table.rows] == [
        "LLM-EDT, local (no LLM)",
        "w/o Aug.",
        "w/o Filtering",
        "Random Inserting",
        "w/o DFT",
        "w/o S-R-A",
        "w/o Aug., w/o DFT",
    ]


def test_a_system_with_two_phases_has_a_table_of_its_own_beside_table_3(result):
    runs = [
        result("mine", label="Mine", food=(0.5, 0.3)),
        result("mine", label="Mine", variant="first phase", first_phase=True, food=(0.4, 0.2)),
        result("llm-edt", label="LLM-EDT", llm=LOCAL, food=(0.5, 0.3)),
    ]
    ours, mine = table_3(runs)
    assert ours.number == 3 and mine.number is None and mine.title.startswith("Ablation study of Mine")
    assert [row.label for row in mine.rows] == ["Mine", "first phase"]


def test_table_3_tells_rows_of_one_variant_apart(result):
    runs = [
        result("llm-edt", label="LLM-EDT", variant=variant, llm=llm, food=(0.5, 0.3))
        for llm in (LOCAL, "gpt-3.5")
        for variant in ("", "w/o DFT")
    ]
    runs.append(result("llm-edt", label="LLM-EDT (alpha=1.0)", variant="w/o DFT", llm=LOCAL, food=(0.4, 0.3)))
    (table,) = table_3(runs)
    assert [row.label for row in table.rows] == [
        "LLM-EDT, local (no LLM)",
        "LLM-EDT, gpt-3.5",
        "w/o DFT, local (no LLM)",
        "w/o DFT, gpt-3.5",
        "w/o DFT (alpha=1.0), local (no LLM)",
    ]


def test_presets_are_rows_of_their_own_and_ablations_say_what_they_are_of(result):
    runs = [
        result("llm-edt", label=f"LLM-EDT ({preset})", variant=variant, llm=LOCAL, food=(0.5, 0.3))
        for preset in ("best", "llm-edt-ce, lr=0.1")
        for variant in ("", "w/o Aug.")
    ]
    (table,) = table_2([*runs, result("sasrec", label="SASRec (sasrec-ce)", food=(0.4, 0.3))])
    assert [row.label for row in table.rows] == [
        "SASRec (sasrec-ce)",
        "LLM-EDT (best), local (no LLM)",
        "LLM-EDT (llm-edt-ce, lr=0.1), local (no LLM)",
        "Improv. of LLM-EDT (best), local (no LLM) (%)",
        "Improv. of LLM-EDT (llm-edt-ce, lr=0.1), local (no LLM) (%)",
    ]
    (table,) = table_3(runs)
    assert [row.label for row in table.rows] == [
        "LLM-EDT (best), local (no LLM)",
        "LLM-EDT (llm-edt-ce, lr=0.1), local (no LLM)",
        "w/o Aug. (best)",
        "w/o Aug. (llm-edt-ce, lr=0.1)",
    ]
    (table,) = free_tables(runs[3:])
    assert [row.label for row in table.rows] == ["LLM-EDT (llm-edt-ce, lr=0.1) w/o Aug., local (no LLM)"]


def test_refuses_to_mix_data_or_to_count_a_run_twice(result):
    run = result("sasrec", food=(0.5, 0.3), run="first", data_key="k1")
    for other in (
        result("sasrec", food=(0.5, 0.3), run="second", seed=44, data_key="k2"),
        result("sasrec", food=(0.5, 0.3), run="second", seed=44, data_key="k1", users=11),
        result("sasrec", books=(0.5, 0.3), run="second", seed=44, data_key="k1"),
    ):
        with pytest.raises(UserError, match="runs first and second were made on different versions of 'shop'"):
            table_2([run, other])
    with pytest.raises(UserError, match="runs first and second are both sasrec with seed 42 on shop"):
        table_2([run, result("sasrec", food=(0.5, 0.3), run="second", data_key="k1")])


def test_a_figure_that_is_no_number_is_an_error(result):
    with pytest.raises(UserError, match=r"run shop-sasrec--42 has nan for hr@10"):
        table_2([result("sasrec", food=(float("nan"), 0.3))])


@pytest.mark.parametrize("make", [table_2, table_3, free_tables])
def test_nothing_to_report(make):
    with pytest.raises(UserError, match="edt train"):
        make([])


def test_free_table_of_any_metric_and_overall(result):
    runs = [
        result("sasrec", food=(0.5, 0.3), seed=seed, seconds=seconds) for seed, seconds in ((42, 10.0), (44, 20.0))
    ]
    runs.append(result("llm-edt", label="LLM-EDT", variant="w/o Aug.", food=(0.4, 0.2), parameters=None))
    (table,) = free_tables(runs, ["users", "hr@10", "mrr", "popularity@10", "seconds", "parameters"], overall=True)
    assert heads(table) == [
        ("food", "Users"),
        ("food", "H@10"),
        ("food", "MRR"),
        ("food", "Pop@10"),
        ("overall", "Users"),
        ("overall", "H@10"),
        ("overall", "MRR"),
        ("overall", "Pop@10"),
        ("", "Seconds"),
        ("", "Parameters"),
    ]
    assert [row.label for row in table.rows] == ["sasrec", "LLM-EDT w/o Aug."]
    assert cells(table, "sasrec") == [
        *("10", "0.5000±.0000", "0.1500±.0000", "7.2±.0"),
        *("20", "0.4500±.0000", "", ""),
        *("15.0±7.1", "1,234"),
    ]
    assert cells(table, "LLM-EDT w/o Aug.")[-2:] == ["1.5", ""]
    with pytest.raises(UserError, match=r"no run has the metric 'auc'; there are: hr@10, mrr"):
        free_tables(runs, ["auc"])


def test_group_tables_show_the_users_and_mark_within_a_group(result):
    def grouped(model: str, short: float, long: float, **more):
        groups = {
            "length": {
                "[0,5)": {"food": {"users": 3, "hr@10": short, "ndcg@10": short / 2}},
                "[20,inf)": {"food": {"users": 7, "hr@10": long, "ndcg@10": long / 2}},
            }
        }
        return result(model, food=(0.5, 0.3), groups=groups, **more)

    runs = [grouped("sasrec", 0.2, 0.6), grouped("llm-edt", 0.3, 0.5), grouped("llm-edt", 0.4, 0.5, seed=44)]
    (table,) = group_tables(runs, "length")
    assert table.title == "Results by length on shop: test, full ranking"
    assert labels(table) == [
        ("[0,5)", "sasrec"),
        ("[0,5)", "llm-edt"),
        ("[20,inf)", "sasrec"),
        ("[20,inf)", "llm-edt"),
    ]
    assert heads(table) == [("food", "Users"), ("food", "H@10"), ("food", "N@10")]
    assert [str(cell) for cell in table.rows[1].cells] == ["3", "0.3500±.0707", "0.1750±.0354"]
    assert marks(table, 1) == ["second", "best", "best", "second"]
    assert group_tables(runs) == [table]
    with pytest.raises(UserError, match="no run has figures by 'age'; there are: length"):
        group_tables(runs, "age")


def test_table_1_of_one_augmented_and_one_plain_dataset():
    table = table_1(
        [
            {
                "data": "demo",
                "synthetic": True,
                "llm": LOCAL,
                "before": {
                    "domains": {"books": {"users": 2000, "items": 900}, "films": {"users": 1500, "items": 600}},
                    "average_length": 10.714,
                },
                "after": {
                    "domains": {"books": {"users": 2000, "items": 950}, "films": {"users": 1800, "items": 640}},
                    "average_length": 11.04,
                },
            },
            {
                "data": "shop",
                "synthetic": False,
                "llm": "",
                "before": {"domains": {"food": {"users": 10, "items": 20}}, "average_length": 8.0},
                "after": None,
            },
        ]
    )
    assert table.heading == "Table 1. Statistics of the datasets"
    assert labels(table) == [("demo (synthetic)", "books"), ("demo (synthetic)", "films"), ("shop", "food")]
    assert cells(table, "books") == ["2,000", "900", "10.71", "2,000", "950", "11.04"]
    assert cells(table, "films") == ["1,500", "600", "", "1,800", "640", ""]
    assert cells(table, "food") == ["10", "20", "8.00", "", "", ""]
    assert table.notes[1:] == ("demo (synthetic) was augmented by local (no LLM).",)


def test_a_row_has_as_many_cells_as_the_table_columns():
    with pytest.raises(ValueError, match="does not have 1 cells"):
        Table("t", (Column("a"),), (Row("x", (None, None)),))


def test_a_table_says_where_repeats_keep_seen_items_among_the_candidates(result):
    few = result("sasrec", food=(0.5, 0.3), keep_seen=False, keep_seen_by="repeats", repeats=0.004)
    many = {"keep_seen": True, "keep_seen_by": "repeats", "repeats": 0.042}
    (table,) = table_2([few, result("sasrec", data="mall", toys=(0.4, 0.2), **many)])
    assert table.title == "Overall performance on shop, mall: test, full ranking"
    assert table.notes[2:] == ("On mall seen items stay candidates: 4.2% of the targets are repeats.",)
    groups = {"length": {"[0,5)": {"food": {"users": 4, "hr@10": 0.5, "ndcg@10": 0.25}}}}
    (table,) = group_tables([result("sasrec", **many, food=(0.4, 0.2), groups=groups)])
    assert table.notes[1:] == ("Seen items stay candidates: 4.2% of the targets are repeats.",)
    assert len(table_2([few])[0].notes) == 2


def test_what_was_asked_for_stands_apart_from_what_the_data_says(result):
    many = {"repeats": 0.042, "food": (0.4, 0.2)}
    by_data = result("sasrec", keep_seen=True, keep_seen_by="repeats", **many)
    left_out = result("sasrec", keep_seen=False, keep_seen_by="setting", **many)
    tables = table_2([by_data, left_out])
    assert [table.title.partition(": ")[2] for table in tables] == [
        "test, full ranking",
        "test, full ranking, seen items left out",
    ]
    assert tables[1].notes[2] == "Seen items are no candidates, as asked: 4.2% of the targets are repeats."


def test_a_note_tells_the_share_of_questions_that_failed(result):
    rested = [
        result("llm-edt", seed=seed, food=(0.5, 0.3), llm="gpt", failed_shares={"profiles": share})
        for seed, share in ((42, 0.1), (44, 0.123))
    ]
    (table,) = table_2([*rested, result("item-knn", food=(0.4, 0.2))])
    assert table.notes[2:] == ("llm-edt by gpt: 12.3% of the LLM's questions failed (profiles).",)


def test_a_note_names_the_vectors_that_items_came_with(result):
    """Of the data whose runs read them."""
    read = result("sasrec", food=(0.5, 0.3), item_vectors="v.npy, 1a2b3c4d")
    (table,) = table_2([read, result("item-knn", food=(0.4, 0.2))])
    assert table.notes[2:] == ("Item vectors: given (v.npy, 1a2b3c4d).",)
    (table,) = table_2([read, result("sasrec", data="mall", toys=(0.4, 0.2))])
    assert table.notes[2:] == ("Item vectors of shop: given (v.npy, 1a2b3c4d).",)
