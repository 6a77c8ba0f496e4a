"""Tables and figures as one HTML file that needs nothing else: it sorts, and it follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edt_cli.reporting.render import cleaned, notes_of
from edt_cli.reporting.table import Cell, Measure, Table
from edt_cli.reporting.text import plain
from edt_cli.workspace.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

PAGE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG that edt drew itself; it is put into the page as it is."""

    title: str
    svg: str
    numbers: Table | None = None
    """What is drawn, to be unfolded below; its notes stand below the figure."""


def page(tables: Sequence[Table], title: str, drawings: Sequence[Drawing] = ()) -> str:
    """Return an HTML document with tables and figures.

    Columns sort by unrounded figures, within the groups of rows. Text is escaped, and the page loads nothing.
    """
    return _template().render(
        title=plain(title),
        version=__version__,
        tables=[_table(cleaned(table)) for table in tables],
        figures=[_figure(drawing) for drawing in drawings],
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(PAGE.read_text("utf-8"))


def _figure(drawing: Drawing) -> dict[str, Any]:
    numbers = None if drawing.numbers is None else _table(cleaned(drawing.numbers))
    return {"title": plain(drawing.title), "svg": drawing.svg, "numbers": numbers}


def _table(table: Table) -> dict[str, Any]:
    groups = [
        (name, len(list(columns))) for name, columns in groupby(table.columns, key=lambda column: column.group)
    ]
    blocks = [
        {
            "compared": compared,
            "rows": [
                {
                    "stub": [row.group, row.label] if table.row_groups else [row.label],
                    "cells": [_cell(cell) for cell in row.cells],
                }
                for row in rows
            ],
        }
        for (_, compared), rows in groupby(table.rows, key=lambda row: (row.group, row.compared))
    ]
    return {
        "heading": table.heading,
        "stubs": table.stub if table.row_groups else table.stub[1:],
        "groups": groups if table.column_groups else [],
        "columns": [column.name for column in table.columns],
        "blocks": blocks,
        "notes": notes_of(table),
    }


def _cell(cell: Cell) -> dict[str, str]:
    """Return the text of a cell, the key that it sorts by, its mark, and a hint with all digits."""
    if not isinstance(cell, Measure):
        return {"text": cell or "", "key": cell or "", "mark": "", "hint": ""}
    seeds = f", {cell.n} seeds" if cell.n > 1 else ""
    return {"text": str(cell), "key": repr(cell.mean), "mark": cell.mark, "hint": f"{cell.mean!r}{seeds}"}
