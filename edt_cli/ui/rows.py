"""List of any length: only visible rows are rendered, so 100,000 rows cost no more than a screenful.

The cursor's row has a sign before it, and the head of its column is underlined. The first column stays in place
while the others scroll. Columns are as wide as they say, but for one that may grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from edt_cli.ui.text import crop, fit, safe
from edt_cli.ui.tones import TONES, Tinted

REVERSE = Style(reverse=True)
BOLD = Style(bold=True)
UNDERLINED = Style(bold=True, underline=True)


@dataclass(frozen=True)
class Col:
    """Column of a list."""

    title: str
    width: int
    """Width in cells."""
    right: bool = False
    """Whether cells are aligned to the right."""
    key: str = ""
    """Name of the field that the owner sorts by when the cursor is on this column."""
    group: str = ""
    """Head above neighbouring columns with the same group."""
    grow: bool = False
    """Whether it takes the room that is left."""
    tone: str = ""
    """Colour of the head, and of cells without one of their own."""


class Rows(ScrollView, can_focus=True):
    """List of rows, whose texts a function returns; a text may be `Tinted`.

    Arrows and hjkl move, enter chooses, space marks, o or a click on a head sorts.
    """

    class Moved(Message):
        """Notice that the cursor is on another row."""

        def __init__(self, rows: Rows, row: int) -> None:
            super().__init__()
            self.rows, self.row = rows, row

        @property
        def control(self) -> Rows:
            return self.rows

    class Chosen(Moved):
        """Notice of enter, or of a second click on a row."""

    class Marked(Moved):
        """Notice of space."""

    class Sorted(Message):
        """Notice of `o`, or of a click on the head, on a column that has a key."""

        def __init__(self, rows: Rows, key: str) -> None:
            super().__init__()
            self.rows, self.key = rows, key

        @property
        def control(self) -> Rows:
            return self.rows

    BINDINGS = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False),
        Binding("g,home", "go(0)", "First", show=False),
        Binding("G,end", "go(-1)", "Last", show=False),
        Binding("right,l", "column(1)", "Next column", show=False),
        Binding("left,h", "column(-1)", "Previous column", show=False),
        Binding("enter", "choose", "Open", show=False),
        Binding("space", "mark", "Mark", show=False),
        Binding("o", "sort", "Sort on this column", show=False),
    ]
    DEFAULT_CSS = "Rows { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }"
    COMPONENT_CLASSES = {"rows--head", "rows--cursor", *(f"tone--{tone}" for tone in TONES)}

    def __init__(self, *, empty: str = "nothing here yet", id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns: Sequence[Col] = ()
        self.count = 0
        self.cursor = 0
        self.column = 0
        self.first = 0
        self.head = 1
        self.empty = empty
        self.sorted_by = ("", False)
        self._cell: Callable[[int], Sequence[str]] = lambda row: ()

    def load(
        self,
        columns: Sequence[Col],
        count: int,
        cell: Callable[[int], Sequence[str]],
        *,
        cursor: int | None = None,
        sorted_by: tuple[str, bool] = ("", False),
    ) -> None:
        """Show `count` rows.

        Args:
            columns: The columns.
            count: Number of rows.
            cell: Function that returns the texts of a row.
            cursor: New row of the cursor; by default it stays where it is.
            sorted_by: Key that the rows are sorted by, and whether they descend.
        """
        self.columns, self.count, self._cell, self.sorted_by = columns, count, cell, sorted_by
        self.column = min(self.column, max(0, len(columns) - 1))
        self.first = min(self.first, self.column)
        self.head = 2 if any(column.group for column in columns) else 1
        self._measure()
        self.cursor = min(max(0, self.cursor if cursor is None else cursor), max(0, count - 1))
        self._show_cursor()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def all_cells(self) -> Iterator[Sequence[str]]:
        """Yield the texts of every row."""
        yield from map(self._cell, range(self.count))

    def on_resize(self) -> None:
        self._measure()
        self._show_cursor()

    def _measure(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self.count + self.head)

    @property
    def room(self) -> int:
        """Width of a line without the scrollbar, which `size` counts in."""
        return self.scrollable_content_region.width

    def render_line(self, y: int) -> Strip:
        width = self.room
        base = self.rich_style
        if y < self.head:
            return self._head(width) if y == self.head - 1 else self._groups(width)
        row = y - self.head + self.scroll_offset.y
        if row >= self.count:
            if self.count == 0 and y == self.head + 1:
                return Strip([Segment(fit(f"  {self.empty}", width), base)])
            return Strip.blank(width, base)
        here = row == self.cursor
        cells = self._cell(row)
        style = self._cursor_style(base) if here else base
        segments = [Segment(">" if here else " ", style)]
        for number, room in self._visible_columns(width):
            text, column = cells[number] if number < len(cells) else "", self.columns[number]
            segments += [Segment(fit(text, room, right=column.right), self._cell_style(text, column, style))]
            segments += [Segment(" ", style)]
        return Strip(segments).adjust_cell_length(width, style)

    def _cursor_style(self, base: Style) -> Style:
        """Return the style of the cursor's row: a background, and without colours reversed."""
        if not self.has_focus:
            return base
        # Of 16 colours none is a background that text of any colour can be read on.
        few = not self.app.is_headless and self.app.console.color_system not in ("256", "truecolor")
        if few or not getattr(self.app, "coloured", True):
            return base + REVERSE
        return base + Style(bgcolor=self.get_component_rich_style("rows--cursor").bgcolor)

    def _cell_style(self, text: str, column: Col, style: Style) -> Style:
        tone = text.tone if isinstance(text, Tinted) else column.tone
        if tone:
            # Only the colour: the background is that of the row.
            style += Style(color=self.get_component_rich_style(f"tone--{tone}").color)
        return style + BOLD if isinstance(text, Tinted) and text.bold else style

    def _head(self, width: int) -> Strip:
        style = self.get_component_rich_style("rows--head")
        segments = [Segment(" ", style)]
        for number, room in self._visible_columns(width):
            col = self.columns[number]
            key, down = self.sorted_by
            title = col.title + (("v" if down else "^") if key and key == col.key else "")
            emphasis = UNDERLINED if number == self.column and self.has_focus else BOLD
            if col.tone:
                emphasis += Style(color=self.get_component_rich_style(f"tone--{col.tone}").color)
            segments += [Segment(fit(title, room, right=col.right), style + emphasis), Segment(" ", style)]
        line = Strip(segments).adjust_cell_length(width, style)
        shown = [number for number, _ in self._visible_columns(width)]
        if shown and shown[-1] < len(self.columns) - 1 and width > 1:
            # A sign at the edge says that there is more to the right.
            return Strip([*line.crop(0, width - 1), Segment(">", style + BOLD)], width)
        return line

    def _groups(self, width: int) -> Strip:
        """Return a line with the groups' names, each centred over its columns."""
        style = self.get_component_rich_style("rows--head")
        segments = [Segment(" ", style)]
        for group, group_columns in groupby(
            self._visible_columns(width), key=lambda entry: self.columns[entry[0]].group
        ):
            shown = list(group_columns)
            span = sum(room for _, room in shown) + len(shown) - 1
            tone = self.columns[shown[0][0]].tone if group else ""
            colour = Style(color=self.get_component_rich_style(f"tone--{tone}").color) if tone else Style()
            segments += [Segment(crop(safe(group).center(span), span), style + BOLD + colour), Segment(" ", style)]
        return Strip(segments).adjust_cell_length(width, style)

    def _visible_columns(self, width: int) -> list[tuple[int, int]]:
        """Return (column, width) of each visible column: the first column, then those from `first` on.

        A column that may grow takes the width that is left.
        """
        visible = self._fitting(width)
        if visible and visible[-1][0] < len(self.columns) - 1:
            # The head needs a cell to say that there is more.
            visible = self._fitting(width - 1)
        return visible

    def _fitting(self, width: int) -> list[tuple[int, int]]:
        """Return (column, width) of each column that fits into a width."""
        if not self.columns:
            return []
        numbers = [0, *range(max(1, self.first), len(self.columns))]
        visible: list[tuple[int, int]] = []
        left = width - 1
        for number in numbers:
            column = self.columns[number]
            room = min(column.width, left)
            # A figure that is cut is another figure: it is shown whole or not at all.
            if room < (column.width if column.right and visible else min(4, column.width)):
                break
            visible.append((number, room))
            left -= room + 1
        growing = [place for place, (number, _) in enumerate(visible) if self.columns[number].grow]
        if left > 0 and growing:
            place = growing[0]
            visible[place] = (visible[place][0], visible[place][1] + left)
        return visible

    def _show_cursor(self) -> None:
        page = max(1, self.size.height - self.head)
        top = self.scroll_offset.y
        if self.cursor < top:
            top = self.cursor
        elif self.cursor >= top + page:
            top = self.cursor - page + 1
        if top != self.scroll_offset.y:
            self.scroll_to(y=top, animate=False, force=True)

    def _go(self, row: int) -> None:
        row = min(max(0, row), max(0, self.count - 1))
        if row == self.cursor:
            return
        old, top = self.cursor, self.scroll_offset.y
        self.cursor = row
        self._show_cursor()
        if top == self.scroll_offset.y:
            for changed in (old, row):
                self.refresh(Region(0, changed + self.head - top, self.room, 1))
        else:
            self.refresh()
        self.post_message(self.Moved(self, row))

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self.cursor + by * max(1, self.size.height - self.head - 1))

    def action_go(self, row: int) -> None:
        self._go(row if row >= 0 else self.count - 1)

    def action_column(self, by: int) -> None:
        self.column = min(max(0, self.column + by), max(0, len(self.columns) - 1))
        if self.column < self.first:
            self.first = self.column
        while self.first < self.column and self.column not in dict(self._visible_columns(self.room)):
            self.first = max(1, self.first) + 1
        self.refresh()

    def action_choose(self) -> None:
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def action_mark(self) -> None:
        if self.count:
            self.post_message(self.Marked(self, self.cursor))

    def action_sort(self) -> None:
        if self.columns and self.columns[self.column].key:
            self.post_message(self.Sorted(self, self.columns[self.column].key))

    def on_click(self, event: events.Click) -> None:
        self.focus()
        row = event.y - self.head + self.scroll_offset.y
        if event.y == self.head - 1:
            begin = 1
            for number, room in self._visible_columns(self.room):
                if begin <= event.x < begin + room:
                    self.column = number
                    self.refresh()
                    self.action_sort()
                begin += room + 1
        elif event.y >= self.head and row < self.count:
            again = row == self.cursor
            self._go(row)
            if again:
                self.action_choose()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self.refresh()
