"""Section of the paper's tables and those of our runs, to read and copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.config import UserError
from edt_cli.inference.labels import labelled
from edt_cli.inference.listing import RunRow
from edt_cli.reporting import tables as build
from edt_cli.reporting.paper_tables import TABLES
from edt_cli.reporting.render import render
from edt_cli.reporting.table import Cell, Measure, Table
from edt_cli.ui.library import Shelf, main_results_of, open_runs
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import paragraph
from edt_cli.ui.tones import Tinted, domain_tone
from edt_cli.workspace.status import RunStatus

MARKS = {"best": "*", "second": "+", "": " "}
TableMaker = Callable[[], list[Table]]


class Tables(Pane):
    """Section with the names of the tables and the chosen table; best and second are marked * and +."""

    BINDINGS = [
        Binding("y", "copy('latex')", "Copy LaTeX"),
        Binding("Y", "copy('markdown')", "Copy Markdown", key_display="Y"),
        Binding("enter", "into", "Into the table", show=False),
    ]
    DEFAULT_CSS = """
    Tables #names { height: 8; }
    Tables #right { height: 1fr; width: 1fr; }
    Tables #title { height: auto; max-height: 2; }
    Tables #notes { height: auto; max-height: 5; }
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self.shelf = shelf
        self.table_makers: list[tuple[str, TableMaker]] = []
        self.table: Table | None = None
        self._shown = ""

    def compose(self) -> ComposeResult:
        yield Rows(id="names", empty="no table")
        with Vertical(id="right"):
            yield Static(id="title", classes="bar", markup=False)
            yield Rows(id="table", empty="no run for this table yet: edt train")
            yield Static(id="notes", classes="bar", markup=False)

    def entered(self) -> None:
        self.query_one("#table", Rows).empty = "reading ..."
        self.table_makers = self.makers()
        self.query_one("#names", Rows).load(
            [Col("table", 60, grow=True)], len(self.table_makers), lambda row: (self.table_makers[row][0],)
        )

    def makers(self) -> list[tuple[str, TableMaker]]:
        """Return the name of each table, and the function that makes it."""
        # Marked runs have tables of their own: a table of all runs never becomes one of some.
        marked = self.shelf.marked_runs()
        return [*_ours(self.shelf.runs, only_marked=False), *_ours(marked, only_marked=True)] + [
            (f"paper {number}: {table.title}", partial(list, (table,))) for number, table in TABLES.items()
        ]

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "names" and event.row < len(self.table_makers):
            name, make = self.table_makers[event.row]
            self._shown = name
            self.reads(make, self._show)

    def _show(self, tables: list[Table]) -> None:
        self.table = tables[0] if tables else None
        self.query_one("#table", Rows).empty = "no run for this table yet: edt train"
        rows = self.query_one("#table", Rows)
        if self.table is None:
            rows.load([], 0, lambda row: ())
            return
        table = self.table
        self.query_one("#title", Static).update(paragraph(table.heading, 300))
        self.query_one("#notes", Static).update(paragraph("\n".join(table.notes), 1200))
        label = max((len(row.label) for row in table.rows), default=8)
        columns = [Col(table.stub[1], min(37, label + 1))]
        columns += [Col(table.stub[0] or "group", 10)] if table.row_groups else []
        for index, column in enumerate(table.columns):
            widest = max([len(_cell_text(row.cells[index])) for row in table.rows], default=6)
            groups = list(dict.fromkeys(column.group for column in table.columns))
            tone = domain_tone(groups.index(column.group)) if 1 < len(groups) <= 4 else ""
            width = max(widest, len(column.name))
            columns.append(Col(column.name, width, right=True, group=column.group, tone=tone))

        def cells(number: int) -> tuple[str, ...]:
            row = table.rows[number]
            group = (row.group,) if table.row_groups else ()
            texts = [_cell_text(cell) for cell in row.cells]
            shown = [
                Tinted(text, column.tone, bold=isinstance(cell, Measure) and cell.mark == "best")
                for text, cell, column in zip(texts, row.cells, columns[-len(texts) :], strict=True)
            ]
            return (row.label, *group, *shown)

        rows.load(columns, len(table.rows), cells)

    def failed(self, message: str) -> None:
        self.table = None
        self.query_one("#table", Rows).load([], 0, lambda row: ())
        self.query_one("#title", Static).update(paragraph(self._shown, 300))
        self.query_one("#notes", Static).update(paragraph(message, 1000))

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        if event.rows.id == "names":
            self.query_one("#table", Rows).focus()

    def action_copy(self, form: str) -> None:
        if self.table is None:
            self.notify("there is no table to copy", markup=False)
            return
        self.app.copy_to_clipboard(str(render(self.table, form)))
        self.notify(
            f"copied as {form}, where the terminal lets an app copy; edt report --format {form} writes the same",
            markup=False,
        )


def _cell_text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell}{MARKS[cell.mark]}" if isinstance(cell, Measure) else str(cell)


def _ours(rows: list[RunRow], only_marked: bool) -> list[tuple[str, TableMaker]]:
    """Return names and makers of the tables of finished runs, for each dataset."""
    which_runs = "marked runs" if only_marked else "all runs"
    tables: list[tuple[str, TableMaker]] = []
    for data in dict.fromkeys(row.data for row in rows if row.status == RunStatus.FINISHED):
        data_runs = [row for row in rows if row.data == data and row.status == RunStatus.FINISHED and row.figures]
        newest = _dataset_key(data_runs[0]) if data_runs else ""
        data_runs = [row for row in data_runs if _dataset_key(row) == newest]
        for title, make in (
            ("table 2, overall", lambda main, every: build.table_2(main)),
            ("table 3, ablations", lambda main, every: build.table_3(every)),
            ("all metrics", lambda main, every: build.free_tables(main, ALL)),
            ("by length", lambda main, every: build.group_tables(main, "length")),
        ):
            tables.append((f"ours, {data}, {which_runs}: {title}", _maker(data_runs, make)))
    return tables


def _dataset_key(row: RunRow) -> str:
    """Return `Run.dataset_key` for a plan that may be damaged."""
    return str(row.plan.get("data_key", "")).partition("-")[0]


ALL = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "hr@20", "ndcg@20", "mrr", "coverage@10", "popularity@10")


def _maker(rows: list[RunRow], make: Callable[[list[Any], list[Any]], list[Table]]) -> TableMaker:
    """Return a function that makes the tables of these runs."""

    def made() -> list[Table]:
        runs = open_runs(rows)
        documents = [document for row in rows for document in main_results_of(row.folder)]
        if not documents:
            raise UserError("no evaluated run for this table yet: edt train, then edt eval")
        every = labelled(documents, runs)
        return make([document for document in every if not document["first_phase"]], every)

    return made
