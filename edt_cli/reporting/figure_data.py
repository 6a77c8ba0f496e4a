"""The numbers of a figure: as a table, as CSV with a line for each point, and as a JSON document."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edt_cli.reporting.figure import Axis, Figure, Panel, Series
from edt_cli.reporting.render import cell_document, document
from edt_cli.reporting.table import Cell, Column, Measure, Row, Table
from edt_cli.reporting.text import plain

USERS = "Users"


def as_table(figure: Figure) -> Table:
    """Return the table of a figure: its summary if it has one, else all its numbers.

    Bars and lines have a row for each x, and a column for each series; points have a row for each series.
    """
    if figure.summary is not None:
        return replace(figure.summary, title=figure.heading, notes=(*figure.summary.notes, *figure.notes))
    rows = _points(figure) if figure.kind == "points" else _curves(figure)
    stub = ("", "System" if figure.kind == "points" else figure.x.heading)
    columns = [column for panel in figure.panels for column in _columns(figure, panel)]
    return Table(figure.heading, tuple(columns), rows, stub, figure.notes)


def _columns(figure: Figure, panel: Panel) -> list[Column]:
    group = panel.title
    if figure.kind == "points":
        return [Column(axis.heading, group) for axis in (figure.x, figure.y)]
    users = [Column(USERS, group)] if panel.counts else []
    return users + [Column(series.label, group) for series in panel.series]


def _curves(figure: Figure) -> tuple[Row, ...]:
    """Return a row for each x of any series, in order of appearance or of size."""
    values = list(dict.fromkeys(x for panel in figure.panels for series in panel.series for x in series.x))
    if all(isinstance(x, float) for x in values):
        values.sort()
    rows = []
    for number, x in enumerate(values):
        cells: list[Cell] = []
        for panel in figure.panels:
            cells += [Measure(panel.counts[number], digits=0)] if panel.counts else []
            cells += [dict(zip(series.x, series.y, strict=True)).get(x) for series in panel.series]
        rows.append(Row(shown(x), tuple(cells)))
    return tuple(rows)


def _points(figure: Figure) -> tuple[Row, ...]:
    labels = dict.fromkeys(series.label for panel in figure.panels for series in panel.series)
    rows = []
    for label in labels:
        cells: list[Cell] = []
        for panel in figure.panels:
            point = next((series for series in panel.series if series.label == label), Series(label, (), ()))
            x = next(iter(point.x), None)
            cells += [None if x is None else Measure(float(x), digits=0), next(iter(point.y), None)]
        rows.append(Row(label, tuple(cells)))
    return tuple(rows)


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
