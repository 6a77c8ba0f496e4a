"""The paper's figures beside ours: in the same table, as printed, and marked as another protocol's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from edt_cli.reporting.figure import Figure
from edt_cli.reporting.paper_tables import FIGURES, PAIRS, TABLES
from edt_cli.reporting.table import Cell, Column, Row, Table

PAPER, ONLY = "Paper", "Only in the paper"
PROTOCOL = (
    "Paper: as printed in arXiv 2511.19931v2, on its own data and by another protocol (100 sampled negatives, with "
    "generated items among them, says its released code): it stands beside ours, and nothing is compared with it."
)
OTHER_ROW = re.compile(r"\w|\.?, w/o")
"""What follows the name of a row where the row is another one: a longer word, or a second ablation."""
ALIASES: dict[int, dict[str, str]] = {
    2: {"Improv. of LLM-EDT": "Improv. (%)"},
    4: {"τ calibrated": "τ = 0.90", "τ calibrated − 0.05": "τ = 0.85", "τ calibrated + 0.05": "τ = 0.95"},
    5: {f"{clusters} = {count}": f"k = {count}" for clusters in ("K", "C", "K = C") for count in (5, 10, 15)},
    7: {"any r": "r < 0.9", "r ≥ 0.9": "0.95 ≥ r ≥ 0.9", "r ≥ 0.95": "r ≥ 0.95"},
}
"""Rows of our tables, by number, that have another name in the paper's."""


def beside_paper(table: Table) -> Table:
    """Return one of the paper's tables for our runs with the paper's figures in it; any other table as it is.

    They are in columns of their own, or in rows where both tables have the same columns. A row that only the paper
    has stands last.
    """
    if table.number is None:
        return table
    paper = _by_backbone(TABLES[9]) if table.number == 9 else TABLES[table.number]
    joined = _rows(table, paper) if _heads(table) == _heads(paper) else _columns(table, paper)
    notes = (*table.notes, PROTOCOL, *(f"{PAPER}: {note}" for note in paper.notes))
    return replace(joined, notes=notes)


def figure_beside_paper(figure: Figure) -> Figure:
    """Return a figure with what the paper's text tells of its own, which is printed as an image only."""
    if figure.number is None:
        return figure
    image = FIGURES[figure.number]
    told = "; ".join(
        f"{name} {'-'.join(f'{value:g}' for value in values)}" for name, values in image.values.items()
    )
    parts = [image.title, *filter(None, (told, image.note))]
    return replace(figure, notes=(*figure.notes, f"{PAPER}: {'; '.join(parts)}."))


def _heads(table: Table) -> list[tuple[str, str]]:
    return [(column.name, column.group) for column in table.columns]


def _rows(table: Table, paper: Table) -> Table:
    """Add the paper's rows below ours."""
    added = [
        replace(row, group=f"{PAPER}: {row.group}" if row.group else PAPER, compared=False) for row in paper.rows
    ]
    return replace(table, rows=(*table.rows, *added))


def _columns(table: Table, paper: Table) -> Table:
    """Add the paper's columns to the right of ours."""
    chosen = _same_domains(table, paper)
    added = [
        replace(
            paper.columns[place], group=" / ".join(filter(None, (PAPER, paper.columns[place].group))), ranked=False
        )
        for place in chosen
    ]
    printed: dict[str, Sequence[Cell]] = {
        _plain(row.label): [row.cells[place] for place in chosen] for row in paper.rows
    }
    find = _finder(printed, ALIASES.get(table.number or 0, {}))
    nothing: Sequence[Cell] = [None] * len(added)
    rows, used = [], set()
    for row in table.rows:
        name = find(row.label)
        used.add(name)
        rows.append(replace(row, cells=(*row.cells, *printed.get(name, nothing))))
    rows += [
        Row(row.label, (*([None] * len(table.columns)), *printed[_plain(row.label)]), ONLY, compared=False)
        for row in paper.rows
        if _plain(row.label) not in used
    ]
    return replace(table, columns=(*table.columns, *added), rows=tuple(rows))


def _same_domains(table: Table, paper: Table) -> list[int]:
    """Return the paper's columns of the pair that our data is of; all if it is of none."""
    ours = {column.group.rpartition(" / ")[2].lower() for column in table.columns}
    pairs = [pair for pair in PAIRS.values() if {domain.lower() for domain in pair} <= ours]
    places = range(len(paper.columns))
    chosen = [place for place in places if any(paper.columns[place].group in pair for pair in pairs)]
    return chosen or list(places)


def _finder(printed: dict[str, Sequence[Cell]], aliases: dict[str, str]) -> Callable[[str], str]:
    """Return what gives the name of the paper's row for a label of ours, "" if it has none.

    A label such as `w/o Aug. (llm-edt-ce), local (no LLM)` begins with the name of its row.
    """
    names = {name: name for name in printed} | {_plain(ours): _plain(theirs) for ours, theirs in aliases.items()}

    def find(label: str) -> str:
        label = label.lower()
        begins = [name for name in names if label.startswith(name) and not OTHER_ROW.match(label[len(name) :])]
        return names[max(begins, key=len)] if begins else ""

    return find


def _plain(label: str) -> str:
    return label.rstrip(".").lower()


def _by_backbone(paper: Table) -> Table:
    """Return table 9 with a row for each system on each backbone, as ours has it."""
    backbones = list(dict.fromkeys(column.group.partition(" / ")[0] for column in paper.columns))
    width = len(paper.columns) // len(backbones)
    columns = tuple(Column(column.name, column.group.partition(" / ")[2]) for column in paper.columns[:width])
    rows = [
        Row(
            backbone if row.label == "-" else f"{row.label} on {backbone}",
            row.cells[width * number : width * (number + 1)],
        )
        for number, backbone in enumerate(backbones)
        for row in paper.rows
    ]
    return replace(paper, columns=columns, rows=tuple(rows))
