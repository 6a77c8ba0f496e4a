"""Rendering of tables for the terminal and as Markdown, LaTeX, CSV and JSON.

Text is cleaned once for all forms, then escaped for each. Terminal, Markdown and LaTeX round figures and mark the
best; CSV and JSON have the raw figures.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any, overload

from rich.console import RenderableType

from edt_cli.config import UsageError
from edt_cli.reporting.table import FORMS, Cell, Measure, Row, Table, TextForm
from edt_cli.reporting.terminal import LEGEND, TerminalTable
from edt_cli.reporting.text import plain

MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|~#!$"} | {"&": "&amp;"})
LATEX = str.maketrans(
    {char: f"\\{char}" for char in "{}$&#%_"}
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        # After \\ or \midrule, LaTeX would read these as an option.
        "[": "{[}",
        "*": "{*}",
        "±": r"$\pm$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "×": r"$\times$",
        "τ": r"$\tau$",
        "α": r"$\alpha$",
        "−": "$-$",
        "†": r"$\dagger$",
        "–": "--",
    }
)


@overload
def render(table: Table, form: TextForm) -> str: ...
@overload
def render(table: Table, form: str) -> RenderableType: ...
def render(table: Table, form: str) -> RenderableType:
    """Render a table in one of FORMS.

    Returns:
        A rich renderable for `terminal`; text that ends with a newline for the other forms.

    Raises:
        UsageError: If the form does not exist.
    """
    forms: dict[str, Callable[[Table], RenderableType]] = {
        "terminal": TerminalTable,
        "markdown": _markdown,
        "latex": _latex,
        "csv": _csv,
        "json": lambda cleaned: json.dumps(document(cleaned), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    if form not in forms:
        raise UsageError(f"unknown form {form!r}; there are: {', '.join(FORMS)}")
    return forms[form](cleaned(table))


def document(table: Table) -> dict[str, Any]:
    """Return a table as a JSON document."""
    return {
        "number": table.number,
        "title": table.title,
        "columns": [{"group": column.group, "name": column.name} for column in table.columns],
        "rows": [
            {"group": row.group, "label": row.label, "cells": [cell_document(value) for value in row.cells]}
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def cell_document(value: Cell) -> Any:
    """Return null, text, or {"mean", "deviation", "n", "mark"} with "flag" if there is one."""
    if not isinstance(value, Measure):
        return value
    figure = {"mean": value.mean, "deviation": value.deviation, "n": value.n, "mark": value.mark or None}
    return {**figure, "flag": value.flag} if value.flag else figure


def cleaned(table: Table) -> Table:
    """Return a table whose text is safe to print."""
    return replace(
        table,
        title=plain(table.title),
        columns=tuple(replace(c, name=plain(c.name), group=plain(c.group)) for c in table.columns),
        rows=tuple(
            replace(
                row,
                label=plain(row.label),
                group=plain(row.group),
                cells=tuple(plain(cell) if isinstance(cell, str) else cell for cell in row.cells),
            )
            for row in table.rows
        ),
        stub=(plain(table.stub[0]), plain(table.stub[1])),
        notes=tuple(plain(note) for note in table.notes),
    )


def _heads(table: Table) -> list[str]:
    """Return column heads in one line, for forms without a line of column groups."""
    stub = table.stub if table.row_groups else table.stub[1:]
    return [*stub, *(f"{column.group} {column.name}".strip() for column in table.columns)]


def _stub(table: Table, row: Row, *, repeated: bool) -> list[str]:
    if not table.row_groups:
        return [row.label]
    return ["" if repeated else row.group, row.label]


def notes_of(table: Table) -> list[str]:
    """Return the notes below a table, what its marks mean first."""
    return [*([LEGEND] if table.marked else []), *table.notes]


def _markdown(table: Table) -> str:
    def cell(value: Cell) -> str:
        text = "" if value is None else str(value).translate(MARKDOWN)
        mark = value.mark if isinstance(value, Measure) else ""
        return {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[mark]

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    stub = 2 if table.row_groups else 1
    lines = [
        f"**{table.heading.translate(MARKDOWN)}**",
        "",
        line([head.translate(MARKDOWN) for head in _heads(table)]),
        line(["---"] * stub + ["---:"] * len(table.columns)),
    ]
    for _, rows in groupby(table.rows, key=lambda row: row.group):
        for number, row in enumerate(rows):
            labels = [text.translate(MARKDOWN) for text in _stub(table, row, repeated=number > 0)]
            lines.append(line(labels + [cell(value) for value in row.cells]))
    for note in notes_of(table):
        lines += ["", note.translate(MARKDOWN)]
    return "\n".join(lines) + "\n"


def _latex(table: Table) -> str:
    """Return a `table` environment with booktabs rules, to be numbered by the LaTeX document.

    pdfLaTeX can print Latin scripts; labels in other scripts need XeLaTeX or LuaLaTeX.
    """

    def cell(value: Cell) -> str:
        text = "" if value is None else str(value).translate(LATEX)
        mark = value.mark if isinstance(value, Measure) else ""
        return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", "": text}[mark]

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    stub = 2 if table.row_groups else 1
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{table.title.translate(LATEX)}}}",
        rf"\begin{{tabular}}{{{'l' * stub}{'r' * len(table.columns)}}}",
        r"\toprule",
    ]
    if table.column_groups:
        heads, rules, first = [""] * stub, [], stub + 1
        for name, columns in groupby(table.columns, key=lambda column: column.group):
            span = len(list(columns))
            heads.append(rf"\multicolumn{{{span}}}{{c}}{{{name.translate(LATEX)}}}")
            if name:
                rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}")
            first += span
        lines += [line(heads), " ".join(rules)]
    names = [*(table.stub if stub == 2 else table.stub[1:]), *(column.name for column in table.columns)]
    lines += [line([name.translate(LATEX) for name in names])]
    for _, rows in groupby(table.rows, key=lambda row: (row.group, row.compared)):
        lines.append(r"\midrule")
        for number, row in enumerate(rows):
            labels = [text.translate(LATEX) for text in _stub(table, row, repeated=number > 0)]
            lines.append(line(labels + [cell(value) for value in row.cells]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip{{\footnotesize {note.translate(LATEX)}}}" for note in notes_of(table)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _csv(table: Table) -> str:
    """Return one line per row, each with the table's title, so that files can be concatenated.

    A column with several seeds is followed by its deviation and number of seeds, a column with flags by its flags.
    """
    columns = list(zip(*(row.cells for row in table.rows), strict=True)) or [()] * len(table.columns)
    seeded = [any(isinstance(cell, Measure) and cell.n > 1 for cell in cells) for cells in columns]
    flagged = [any(isinstance(cell, Measure) and cell.flag for cell in cells) for cells in columns]
    stub = _heads(table)[: -len(table.columns)]
    heads = ["table", *stub]
    for head, several, flags in zip(_heads(table)[len(stub) :], seeded, flagged, strict=True):
        heads += [head, f"{head} deviation", f"{head} seeds"] if several else [head]
        heads += [f"{head} flag"] * flags
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(heads)
    for row in table.rows:
        cells: list[str | float | None] = [table.heading, *_stub(table, row, repeated=False)]
        for cell, several, flags in zip(row.cells, seeded, flagged, strict=True):
            figures = [cell.mean, cell.deviation, cell.n] if isinstance(cell, Measure) else [cell, None, None]
            cells += figures if several else figures[:1]
            cells += [cell.flag if isinstance(cell, Measure) else None] * flags
        lines.writerow(cells)
    return text.getvalue()
