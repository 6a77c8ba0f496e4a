"""A whole report: tables and figures as one text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from edt_cli.reporting.figure import Figure
from edt_cli.reporting.figure_data import as_table, cleaned_figure, figure_csv, figure_document
from edt_cli.reporting.render import document, render
from edt_cli.reporting.table import Table, TextForm


def report_text(
    tables: Sequence[Table],
    figures: Sequence[Figure],
    form: TextForm | Literal["html"],
    changes: Mapping[str, str] | None = None,
) -> str:
    """Return tables and figures as one text.

    In Markdown and LaTeX a figure is the table of its numbers; in HTML it is drawn, with that table to unfold.

    Args:
        tables: Tables, in their order.
        figures: Figures, in their order, after the tables.
        form: A form of tables, or "html".
        changes: How the data of runs has changed since, for JSON.

    Raises:
        UserError: If a figure is to be drawn and matplotlib is not installed.
    """
    if form == "html":
        from edt_cli.reporting.drawn_figure import inline_svg
        from edt_cli.reporting.html import Drawing, page

        drawings = [Drawing(figure.heading, inline_svg(figure), as_table(figure)) for figure in figures]
        headings = dict.fromkeys([*(table.heading for table in tables), *(figure.heading for figure in figures)])
        title = " · ".join(headings) if len(headings) < 4 else f"{len(tables)} tables, {len(figures)} figures"
        return page(tables, title, drawings)
    if form == "json":
        whole = {
            "tables": [document(table) for table in tables],
            "figures": [figure_document(figure) for figure in figures],
            "data_changes": dict(changes or {}),
        }
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    drawn = [
        figure_csv(cleaned_figure(figure)) if form == "csv" else render(as_table(figure), form)
        for figure in figures
    ]
    return "\n".join([*(render(table, form) for table in tables), *drawn])
