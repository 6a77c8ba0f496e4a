"""Tables on a terminal, split between groups of columns if they are wider than the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from edt_cli.reporting.table import Cell, Measure, Table
from edt_cli.reporting.text import ascii_form

LEGEND = "Best bold, second underlined."
SIGN_LEGEND = "Best *, second +."
NARROW_LABEL = 14
LONGEST_GROUP = 28
RULES = box.HORIZONTALS
ASCII_RULES = box.Box(str(box.HORIZONTALS).replace("─", "-"), ascii=True)
STYLES = {"best": "bold", "second": "underline", "": ""}
SIGNS = {"best": "*", "second": "+", "": " "}


@dataclass(frozen=True)
class TerminalTable:
    """Rich renderable of a table.

    Best and second are bold and underlined. Where styles cannot be shown (a pipe, a dumb terminal), a sign follows
    the figure instead. Labels wrap; figures wrap only on a console too narrow for one column.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        layout = _Layout(self.table, options, styled=console.color_system is not None)
        yield Text(layout.written(self.table.heading), style="bold")
        for block in layout.blocks():
            yield Text()
            if any(self.table.columns[number].group for number in block):
                yield Text(layout.group_heads(block), no_wrap=True, overflow="crop")
            yield layout.rich_table(block)
        legend = [SIGN_LEGEND if layout.signed else LEGEND] if self.table.marked else []
        for number, note in enumerate([*legend, *self.table.notes]):
            yield Text("\n" * (number == 0) + layout.written(note))


class _Layout:
    """Layout of a table, with widths in cells; a block is a list of column numbers shown side by side."""

    def __init__(self, table: Table, options: ConsoleOptions, *, styled: bool) -> None:
        self.table = table
        self.width = options.max_width
        self.written: Callable[[str], str] = ascii_form if options.ascii_only else str
        self.rules = ASCII_RULES if options.ascii_only else RULES
        self.signed = table.marked and not styled
        # A sign takes one of the two cells between columns.
        self.gap = 1 if self.signed else 2
        self.groups = [
            [number for number, _ in columns]
            for _, columns in groupby(enumerate(table.columns), key=lambda entry: entry[1].group)
        ]
        self.widths = [self._column_width(number) for number in range(len(table.columns))]
        for numbers in self.groups:
            missing = self._group_width(numbers) - self._span(numbers)
            self.widths[numbers[0]] += max(0, missing)
        heads = table.stub if table.row_groups else ("", table.stub[1])
        self.row_group = max(
            [cell_len(self.written(row.group)) for row in table.rows] + [cell_len(self.written(heads[0]))]
        )
        self.label = max(
            [cell_len(self.written(row.label)) for row in table.rows] + [cell_len(self.written(heads[1]))]
        )

    def blocks(self) -> list[list[int]]:
        """Return the blocks: as many whole groups of columns as fit; a group that is too wide is split."""
        room = self.width - self._stub(min(self.label, NARROW_LABEL))
        blocks: list[list[int]] = [[]]
        for group in self.groups:
            fits = self.gap + self._span(group) <= room
            for part in [group] if fits else [[number] for number in group]:
                if blocks[-1] and self.gap + self._span([*blocks[-1], *part]) > room:
                    blocks.append([])
                blocks[-1].extend(part)
        return blocks

    def group_heads(self, block: list[int]) -> str:
        """Return a line with the groups' names, each centred over its columns."""
        line = " " * self._stub(self._label_width(block))
        for name, numbers in groupby(block, key=lambda number: self.table.columns[number].group):
            span = self._span(list(numbers))
            shown = self.written(name)
            if cell_len(shown) > span:
                shown = set_cell_size(shown, span - 1) + self.written("…")
            line += " " * self.gap + " " * ((span - cell_len(shown) + 1) // 2) + shown
            line += " " * ((span - cell_len(shown)) // 2)
        return line.rstrip()

    def rich_table(self, block: list[int]) -> RichTable:
        """Return the columns of a block as a rich table."""
        rich_table = RichTable(box=self.rules, show_edge=False, padding=0, pad_edge=False)
        if self.table.row_groups:
            rich_table.add_column(Text(self.written(self.table.stub[0])), width=self.row_group + 1)
        rich_table.add_column(
            Text(self.written(self.table.stub[1])), width=self._label_width(block), overflow="fold"
        )
        for number in block:
            name = Text(self.written(self.table.columns[number].name) + (" " if self.signed else ""))
            # One cell of the gap is the box's divider.
            rich_table.add_column(name, width=self.widths[number] + self.gap - 1, justify="right", overflow="fold")
        previous = None
        for row in self.table.rows:
            if previous and (previous.group, previous.compared) != (row.group, row.compared):
                rich_table.add_section()
            cells = [Text(_break_label(self.written(row.label), self._label_width(block)))]
            if self.table.row_groups:
                repeated = previous is not None and previous.group == row.group
                cells.insert(0, Text("" if repeated else self.written(row.group)))
            rich_table.add_row(*cells, *(self._cell(row.cells[number]) for number in block))
            previous = row
        return rich_table

    def _cell(self, cell: Cell) -> Text:
        mark = cell.mark if isinstance(cell, Measure) else ""
        text = "" if cell is None else self.written(str(cell))
        return Text(text + SIGNS[mark]) if self.signed else Text(text, style=STYLES[mark])

    def _column_width(self, number: int) -> int:
        cells = [self._cell(row.cells[number]).cell_len for row in self.table.rows]
        return max([*cells, cell_len(self.written(self.table.columns[number].name)) + self.signed])

    def _group_width(self, numbers: list[int]) -> int:
        return min(cell_len(self.written(self.table.columns[numbers[0]].group)), LONGEST_GROUP)

    def _span(self, numbers: list[int]) -> int:
        return sum(self.widths[number] for number in numbers) + self.gap * (len(numbers) - 1)

    def _stub(self, label: int) -> int:
        return (self.row_group + 2 if self.table.row_groups else 0) + label

    def _label_width(self, block: list[int]) -> int:
        spare = self.width - self._stub(0) - self.gap - self._span(block)
        return max(1, min(self.label, max(spare, 1)))


def _break_label(label: str, width: int) -> str:
    """Break a label too long for one line before its last part (such as `local (no LLM)`) if that part fits."""
    head, comma, tail = label.rpartition(", ")
    breaks = comma and cell_len(label) > width >= cell_len(tail)
    return f"{head},\n{tail}" if breaks else label
