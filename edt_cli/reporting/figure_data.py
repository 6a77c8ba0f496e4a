"""The numbers of a figure: as a table, as CSV with a line for each point, and as a JSON document."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edt_cli.reporting.figure import Axis, Figure, Panel
from edt_cli.reporting.render import cell_document, document
from edt_cli.reporting.table import Cell, Column, Measure, Row, Table
from edt_cli.reporting.text import plain

USERS = "Users"


def as_table(figure: Figure) -> Table:
    """Return the table of a figure: its summary if it has one, else all its numbers.

    It has a row for each series; a column for each x of bars and lines, two for points.
    """
    if figure.summary is not None:
        return replace(figure.summary, title=figure.heading, notes=(*figure.summary.notes, *figure.notes))
    columns = [column for panel in figure.panels for column in _columns(figure, panel)]
    rows = [
        Row(label, tuple(cell for panel in figure.panels for cell in _cells(figure, panel, label)))
        for label in labels_of(figure)
    ]
    if any(panel.counts for panel in figure.panels):
        counts = tuple(Measure(count, digits=0) for panel in figure.panels for count in panel.counts)
        rows.insert(0, Row(USERS, counts, compared=False))
    stub = ("", "System" if figure.kind == "points" else figure.x.heading)
    return Table(figure.heading, tuple(columns), tuple(rows), stub, figure.notes)


def _columns(figure: Figure, panel: Panel) -> list[Column]:
    if figure.kind == "points":
        return [Column(axis.heading, panel.title) for axis in (figure.x, figure.y)]
    return [Column(shown(x), panel.title) for x in _values(panel)]


def _cells(figure: Figure, panel: Panel, label: str) -> list[Cell]:
    """Return the cells of a series in the columns of a panel; points have one point each."""
    series = next((series for series in panel.series if series.label == label), None)
    values = {} if series is None else dict(zip(series.x, series.y, strict=True))
    if figure.kind != "points":
        return [values.get(x) for x in _values(panel)]
    x, y = next(iter(values.items()), (None, None))
    return [None if x is None else Measure(float(x), digits=0), y]


def _values(panel: Panel) -> list[str | float]:
    """Return each x of a panel once, in order of appearance; all its series have them in the same order."""
    return list(dict.fromkeys(x for series in panel.series for x in series.x))


def shown(x: str | float) -> str:
    """Return a value of an x axis as text."""
    return x if isinstance(x, str) else f"{x:g}"


def figure_csv(figure: Figure) -> str:
    """Return one line per point, with raw numbers and the figure's title, so that files can be concatenated."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(
        ["figure", "panel", "series", figure.x.heading, figure.y.heading, "deviation", "seeds", "flag", "users"]
    )
    for panel in figure.panels:
        for series in panel.series:
            for number, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
                point = [None] * 4 if y is None else [y.mean, y.deviation, y.n, y.flag or None]
                users = panel.counts[number] if panel.counts else None
                lines.writerow([figure.heading, panel.title, series.label, x, *point, users])
    return text.getvalue()


def figure_document(figure: Figure) -> dict[str, Any]:
    """Return a figure as a JSON document, its points as in `document` of a table."""

    def axis(given: Axis) -> dict[str, str]:
        return {"label": given.label, "unit": given.unit, "scale": "log" if given.log else "linear"}

    return {
        "number": figure.number,
        "title": figure.title,
        "kind": figure.kind,
        "x": axis(figure.x),
        "y": axis(figure.y),
        "panels": [
            {
                "title": panel.title,
                "users": list(panel.counts) or None,
                "series": [
                    {"label": series.label, "x": list(series.x), "y": [cell_document(y) for y in series.y]}
                    for series in panel.series
                ],
            }
            for panel in figure.panels
        ],
        "summary": None if figure.summary is None else document(figure.summary),
        "notes": list(figure.notes),
    }


def cleaned_figure(figure: Figure) -> Figure:
    """Return a figure whose text is safe to print."""
    return replace(
        figure,
        title=plain(figure.title),
        panels=tuple(
            replace(
                panel,
                title=plain(panel.title),
                series=tuple(replace(series, label=plain(series.label)) for series in panel.series),
            )
            for panel in figure.panels
        ),
        notes=tuple(plain(note) for note in figure.notes),
    )


def labels_of(figure: Figure) -> Sequence[str]:
    """Return the label of each series, once, in order of appearance."""
    return list(dict.fromkeys(series.label for panel in figure.panels for series in panel.series))
