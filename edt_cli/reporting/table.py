"""Tables as data: grouped columns, grouped rows, and cells that keep their raw figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

TextForm = Literal["markdown", "latex", "csv", "json"]
Form = Literal["terminal", "markdown", "latex", "csv", "json"]
FORMS: tuple[str, ...] = get_args(Form)
DrawnForm = Literal["png", "svg", "pdf"]
"""Forms of figures alone."""
ReportForm = Literal["terminal", "markdown", "latex", "html", "csv", "json", "png", "svg", "pdf"]
"""Forms of a whole report; in `html` it is one page."""
ENDINGS = {
    ".md": "markdown",
    ".tex": "latex",
    ".html": "html",
    ".csv": "csv",
    ".json": "json",
    ".png": "png",
    ".svg": "svg",
    ".pdf": "pdf",
}
"""Form of a file, by its ending."""
Mark = Literal["", "best", "second"]


@dataclass(frozen=True)
class Measure:
    """Mean of a figure over seeds."""

    mean: float
    deviation: float | None = None
    """Sample standard deviation (n - 1); None for a single seed."""
    n: int = 1
    """Number of seeds."""
    digits: int = 4
    """Digits shown after the point; `mean` and `deviation` are not rounded."""
    mark: Mark = ""
    flag: str = ""
    """Sign (†) after a figure that supports no claim: it is never marked, and nothing is compared with it."""

    def __str__(self) -> str:
        """Return text such as `0.8104` or `0.8104±.0012`; whole numbers omit a deviation of 0."""
        mean = f"{self.mean:,.{self.digits}f}"
        if self.deviation is None or (self.deviation == 0 and self.digits == 0):
            return mean + self.flag
        deviation = f"{self.deviation:,.{self.digits}f}"
        return f"{mean}±{deviation.removeprefix('0') if self.digits else deviation}{self.flag}"

    @classmethod
    def over(cls, values: Sequence[float], digits: int = 4) -> Measure | None:
        """Return the mean and deviation of one value per seed, or None (an empty cell) without values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values), digits)


class PValue(Measure):
    """P-value; one too small for its `digits` is shown as `<0.0001`, never as 0."""

    def __str__(self) -> str:
        least = f"{10.0**-self.digits:.{self.digits}f}"
        return f"<{least}" if self.mean < float(least) else super().__str__()


Cell = str | Measure | None


@dataclass(frozen=True)
class Column:
    """Column of a table."""

    name: str
    group: str = ""
    ranked: bool = False
    """Whether the best and second rows are marked; higher is better."""


@dataclass(frozen=True)
class Row:
    """Row of a table."""

    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    compared: bool = True
    """Whether the row can be best or second; an improvement row cannot."""


@dataclass(frozen=True)
class Table:
    """Table with a title, columns, rows and notes. A cell without a run is None."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    stub: tuple[str, str] = ("", "Model")
    """Heads of the row groups and of the row labels."""
    notes: tuple[str, ...] = ()
    number: int | None = None
    """Number of the table in the paper, if it has one."""

    def __post_init__(self) -> None:
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} does not have {len(self.columns)} cells")

    @property
    def heading(self) -> str:
        """Title, with the number of the table in the paper."""
        return self.title if self.number is None else f"Table {self.number}. {self.title}"

    @property
    def row_groups(self) -> bool:
        """Whether any row has a group."""
        return any(row.group for row in self.rows)

    @property
    def column_groups(self) -> bool:
        """Whether any column has a group."""
        return any(column.group for column in self.columns)

    @property
    def marked(self) -> bool:
        """Whether any cell is marked as best or second."""
        return any(isinstance(cell, Measure) and cell.mark for row in self.rows for cell in row.cells)


def mark_best(table: Table, *, within_groups: bool = False) -> Table:
    """Mark the best and second row of each ranked column.

    Figures are compared as shown: rows that show the same figure share a mark, and the second is the next lower
    figure. A row without others to compare with gets no mark.

    Args:
        table: The table to mark.
        within_groups: Compare rows only within their group.
    """
    rows = list(table.rows)
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.compared:
            groups.setdefault(row.group if within_groups else "", []).append(number)
    for index, column in enumerate(table.columns):
        for group in groups.values() if column.ranked else ():
            shown = {
                number: round(cell.mean, cell.digits)
                for number in group
                if isinstance(cell := rows[number].cells[index], Measure) and not cell.flag
            }
            if len(shown) < 2:
                continue
            best, *lower = sorted(set(shown.values()), reverse=True)
            for number, figure in shown.items():
                if figure == best:
                    rows[number] = _marked(rows[number], index, "best")
                elif figure == lower[0]:
                    rows[number] = _marked(rows[number], index, "second")
    return replace(table, rows=tuple(rows))


def _marked(row: Row, index: int, mark: Mark) -> Row:
    cell = row.cells[index]
    assert isinstance(cell, Measure)
    return replace(row, cells=(*row.cells[:index], replace(cell, mark=mark), *row.cells[index + 1 :]))


def improvement(ours: Row, others: Sequence[Row], label: str) -> Row:
    """Return the improvement of `ours` over the best of `others` in percent, as in the last row of table 2.

    It is computed for each column from unrounded means. A cell is empty if either side is empty or flagged, or if
    the best of the others is zero.
    """
    cells: list[Cell] = []
    for index, cell in enumerate(ours.cells):
        rivals = [rival for row in others if isinstance(rival := row.cells[index], Measure)]
        best = max(rivals, key=lambda rival: rival.mean, default=None)
        if isinstance(cell, Measure) and best and best.mean > 0 and not (cell.flag or best.flag):
            cells.append(Measure(100 * (cell.mean / best.mean - 1), digits=2))
        else:
            cells.append(None)
    return Row(label, tuple(cells), compared=False)
