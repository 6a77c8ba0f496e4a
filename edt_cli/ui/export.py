"""The table or chart at hand as a file: a table in any form of a report, a chart drawn or as its points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edt_cli.config import UsageError
from edt_cli.reporting.table import ENDINGS, Column, Row, Table, TextForm
from edt_cli.ui.rows import Rows

if TYPE_CHECKING:
    from edt_cli.reporting.figure import Figure
    from edt_cli.ui.chart import Chart

OF_TABLES = ("markdown", "latex", "csv", "json", "html")
OF_CHARTS = ("png", "svg", "pdf", "csv", "json")
MARKS = " *+"
"""Signs of marked rows, and of best and second figures, which are no part of a text."""


def table_of(rows: Rows, title: str) -> Table:
    """Return a list as a table: every row with the texts that it shows; bars are left out."""
    shown = [number for number, column in enumerate(rows.columns) if column.title]
    first, *rest = shown or [0]
    texts = [[_plain(cells[n]) if n < len(cells) else "" for n in (first, *rest)] for cells in rows.all_cells()]
    return Table(
        title,
        tuple(Column(rows.columns[n].title, rows.columns[n].group) for n in rest),
        tuple(Row(label, tuple(cells)) for label, *cells in texts),
        ("", rows.columns[first].title if rows.columns else ""),
    )


def figure_of(chart: Chart) -> Figure:
    """Return the curves of a chart as a figure."""
    from edt_cli.reporting.figure import Axis, Figure, Panel, Series
    from edt_cli.reporting.table import Measure

    series = []
    for name, curve in chart.curves.items():
        points = [(x, (low + high) / 2) for x, low, high in curve if low == low]
        values = tuple(Measure(y, digits=6) for _, y in points)
        series.append(Series(name, tuple(x for x, _ in points), values))
    title = str(chart.border_title or "")
    return Figure(title, "lines", Axis("epoch"), Axis(title, log=chart.log_axis), (Panel("", tuple(series)),))


def write(path: Path, what: Table | Figure) -> None:
    """Write a table or figure to a file, whose ending says in which form.

    Raises:
        UsageError: If the ending names no form, or a table is to be drawn.
        UserError: If it cannot be written, or matplotlib, which draws, is not installed.
    """
    from edt_cli.reporting.report import report_text
    from edt_cli.workspace.files import write_atomic

    form = ENDINGS.get(path.suffix.lower(), "")
    forms = OF_TABLES if isinstance(what, Table) else OF_CHARTS
    if form not in forms:
        endings = ", ".join(ending for ending, of in ENDINGS.items() if of in forms)
        raise UsageError(f"{path.name} has none of the endings {endings}")
    if isinstance(what, Table):
        write_atomic(path, report_text([what], [], _text_form(form)))
    elif form in OF_TABLES:
        write_atomic(path, report_text([], [what], _text_form(form)))
    else:
        from edt_cli.reporting.drawn_figure import draw

        write_atomic(path, draw([what], form))  # type: ignore[arg-type]


def _text_form(form: str) -> TextForm:
    return form  # type: ignore[return-value]


def _plain(text: str) -> str:
    return str(text).strip(MARKS)
