"""A table as data: columns under groups, rows in groups, cells that keep their raw figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Mark = Literal["", "best", "second"]


@dataclass(frozen=True)
class Measure:
    """A figure over `n` seeds. `deviation`: the sample standard deviation (n - 1), None for a single seed.
    `digits` after the point are shown; `mean` and `deviation` stay as they are. `flag` stands behind a figure that
    supports no claim (†): it is neither best nor second, and nothing is compared with it."""

    mean: float
    deviation: float | None = None
    n: int = 1
    digits: int = 4
    mark: Mark = ""
    flag: str = ""

    def __str__(self) -> str:
        """`0.8104`, `0.8104±.0012`; a count that all seeds share is shown without its deviation of 0."""
        mean = f"{self.mean:,.{self.digits}f}"
        if self.deviation is None or (self.deviation == 0 and self.digits == 0):
            return mean + self.flag
        deviation = f"{self.deviation:,.{self.digits}f}"
        return f"{mean}±{deviation.removeprefix('0') if self.digits else deviation}{self.flag}"

    @classmethod
    def over(cls, values: Sequence[float], digits: int = 4) -> Measure | None:
        """Mean and deviation of one value a seed; None, an empty cell, where there is none."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values), digits)


class PValue(Measure):
    """A p-value; one too small for its `digits` is shown as less than what they can say, never as 0."""

    def __str__(self) -> str:
        least = f"{10.0**-self.digits:.{self.digits}f}"
        return f"<{least}" if self.mean < float(least) else super().__str__()


Cell = str | Measure | None


@dataclass(frozen=True)
class Column:
    name: str
    group: str = ""
    ranked: bool = False
    """More is better here: the best and the second of the rows are marked."""


@dataclass(frozen=True)
class Row:
    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    compared: bool = True
    """Takes part in best and second; an improvement row does not."""


@dataclass(frozen=True)
class Table:
    """`stub`: heads of the row groups and of the labels; `number`: the paper's, where it is one of the paper's
    tables. A cell that was not run is None."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    stub: tuple[str, str] = ("", "Model")
    notes: tuple[str, ...] = ()
    number: int | None = None

    def __post_init__(self) -> None:
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")

    @property
    def heading(self) -> str:
        return self.title if self.number is None else f"Table {self.number}. {self.title}"

    @property
    def row_groups(self) -> bool:
        return any(row.group for row in self.rows)

    @property
    def column_groups(self) -> bool:
        return any(column.group for column in self.columns)

    @property
    def marked(self) -> bool:
        return any(isinstance(cell, Measure) and cell.mark for row in self.rows for cell in row.cells)


def mark_best(table: Table, *, within_groups: bool = False) -> Table:
    """Best and second of each ranked column, by what is shown: rows that show the same figure share the mark,
    the second is the next lower figure. `within_groups`: apart for each group of rows. One row alone has no mark.
    """
    rows = list(table.rows)
    parts: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.compared:
            parts.setdefault(row.group if within_groups else "", []).append(number)
    for place, column in enumerate(table.columns):
        for part in parts.values() if column.ranked else ():
            shown = {
                number: round(cell.mean, cell.digits)
                for number in part
                if isinstance(cell := rows[number].cells[place], Measure) and not cell.flag
            }
            if len(shown) < 2:
                continue
            best, *lower = sorted(set(shown.values()), reverse=True)
            for number, figure in shown.items():
                if figure == best:
                    rows[number] = _marked(rows[number], place, "best")
                elif figure == lower[0]:
                    rows[number] = _marked(rows[number], place, "second")
    return replace(table, rows=tuple(rows))


def _marked(row: Row, place: int, mark: Mark) -> Row:
    cell = row.cells[place]
    assert isinstance(cell, Measure)
    return replace(row, cells=(*row.cells[:place], replace(cell, mark=mark), *row.cells[place + 1 :]))


def improvement(ours: Row, others: Sequence[Row], label: str) -> Row:
    """`ours` over the best of `others` in percent, column by column (table 2's last row), from unrounded means.
    Empty where either side is or is flagged, or where the best other is zero."""
    cells: list[Cell] = []
    for place, cell in enumerate(ours.cells):
        there = [other for row in others if isinstance(other := row.cells[place], Measure)]
        best = max(there, key=lambda other: other.mean, default=None)
        if isinstance(cell, Measure) and best and best.mean > 0 and not (cell.flag or best.flag):
            cells.append(Measure(100 * (cell.mean / best.mean - 1), digits=2))
        else:
            cells.append(None)
    return Row(label, tuple(cells), compared=False)
