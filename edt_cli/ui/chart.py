"""Widget of a line chart: axes with round numbers, the name of each curve at its end, values under a cursor."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from edt_cli.ui.curves import Curve
from edt_cli.ui.plot import LETTERS, cell_of, draw, name_rows, nearest, number, x_labels
from edt_cli.ui.text import crop, fit, safe

NAMES = 16
SERIES = 8
MARGIN = 7
"""Width of the vertical axis in cells."""


class Chart(Widget, can_focus=True):
    """Chart of named curves in a frame. Left, right or a click move a cursor that shows values, + and - zoom there.

    The wheel zooms around the point under the mouse, which stays where it is.

    Curves have colours; without colours each has a stroke of its own, and in ASCII a letter, beside its name.
    """

    BINDINGS = [
        Binding("left,h", "cursor(-1)", "Value before", show=False),
        Binding("right,l", "cursor(1)", "Value after", show=False),
        Binding("plus,equals_sign", "zoom_x(0.5)", "Zoom in", key_display="+", show=False),
        Binding("minus", "zoom_x(2)", "Zoom out", key_display="-", show=False),
        Binding("L", "log_axis", "Log axis", key_display="L"),
    ]
    DEFAULT_CSS = "Chart { height: 1fr; width: 1fr; min-height: 4; }"
    COMPONENT_CLASSES = {*(f"chart--{number}" for number in range(SERIES)), "chart--axis", "chart--cursor"}
    DEFAULT_CLASSES = "frame"

    def __init__(self, title: str, *, log: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = title
        self.log_axis = log
        self.note = ""
        self.empty = "nothing to draw yet"
        self.mark: float | None = None
        self.cursor: float | None = None
        self.window: tuple[float, float] | None = None
        """The x from which and up to which curves are drawn; None for all."""
        self.curves: dict[str, Curve] = {}
        self._colours: dict[str, int] = {}
        self._strips: tuple[object, list[Strip]] | None = None

    def show(
        self,
        curves: Mapping[str, Curve],
        *,
        note: str = "",
        mark: float | None = None,
        title: str | None = None,
        colours: Mapping[str, int] | None = None,
    ) -> None:
        """Draw curves, if anything has changed.

        Args:
            curves: Curves by name.
            note: Text in the frame.
            mark: The x of the best point.
            title: New title of the frame.
            colours: Number of each curve's colour; by default its position.
        """
        self.curves, self._colours = dict(curves), dict(colours or {})
        self.note, self.mark = note, mark
        # A title that is assigned is sent to the terminal, even if it is the same.
        if title is not None and title != self.border_title:
            self.border_title = title
        self._show_note()
        if self._strips is not None and self._strips[0] != self._version():
            self._strips = None
            self.refresh()

    def draw_now(self, curves: Mapping[str, Curve], width: int, height: int) -> list[Strip]:
        """Return the lines of a chart of the given size, drawn even if nothing has changed."""
        self.curves = dict(curves)
        return self._render_all(width, height)

    def action_log_axis(self) -> None:
        """Switch between a linear and a logarithmic axis."""
        self.log_axis = not self.log_axis
        self._show_note()
        self.refresh()

    def action_cursor(self, by: int) -> None:
        """Move the cursor by one bucket of the longest curve."""
        xs = self._buckets()
        if not xs:
            return
        if self.cursor is None:
            at = len(xs) - 1 if by < 0 else 0
        else:
            at = min(range(len(xs)), key=lambda place: abs(xs[place] - (self.cursor or 0.0))) + by
        self.cursor = xs[min(max(0, at), len(xs) - 1)]
        if self.window is not None and not self.window[0] <= self.cursor <= self.window[1]:
            self._look_at(self.cursor, self.window[1] - self.window[0])
        self._show_note()
        self.refresh()

    def action_zoom_x(self, by: float) -> None:
        """Show a smaller or larger part of the curves, around the cursor, else at their end."""
        _, last = self.window or self._extent()
        self._zoom(by, last if self.cursor is None else self.cursor, 0.5)

    def _zoom(self, by: float, x: float, share: float) -> None:
        """Show a smaller or larger part of the curves, in which a point has a place (0 is left, 1 is right)."""
        first, last = self.window or self._extent()
        whole = self._extent(whole=True)
        if last > first:
            self._look_at(x, (last - first) * by, share)
        if self.window is not None and self.window[1] - self.window[0] >= whole[1] - whole[0]:
            self.window = None
        self._show_note()
        self.refresh()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, 0.5)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 2.0)

    def _wheel(self, event: events.MouseEvent, by: float) -> None:
        """Zoom around the point under the mouse, and put the cursor on it."""
        share = self._point_at(event)
        if share is not None and self.cursor is not None:
            self._zoom(by, self.cursor, share)
            event.stop()

    def on_click(self, event: events.Click) -> None:
        if self._point_at(event) is not None:
            self._show_note()
            self.refresh()

    def _point_at(self, event: events.MouseEvent) -> float | None:
        """Put the cursor on the bucket under the mouse, and return its place: 0 is left, 1 is right."""
        offset, plot = event.get_content_offset(self), self._plot_width()
        first, last = self._extent()
        xs = [x for x in self._buckets() if first <= x <= last]
        if offset is None or not xs or not MARGIN <= offset.x < MARGIN + plot or last <= first:
            return None
        wanted = first + (offset.x - MARGIN) / max(1, plot - 1) * (last - first)
        self.cursor = min(xs, key=lambda x: abs(x - wanted))
        return (self.cursor - first) / (last - first)

    def _buckets(self) -> list[float]:
        """Return the x of each bucket of the longest curve."""
        longest = max(self.curves.values(), key=len, default=None)
        return [] if longest is None else [x for x, _, _ in longest]

    def _look_at(self, x: float, span: float, share: float = 0.5) -> None:
        """Show a span of the curves, two points at least, with an x at a share of its width from the left."""
        first, last = self._extent(whole=True)
        longest = max((len(curve) for curve in self.curves.values()), default=1)
        span = min(last - first, max(span, 2 * (last - first) / max(1, longest - 1)))
        begin = min(max(first, x - span * share), last - span)
        self.window = (begin, begin + span)

    def _visible(self) -> dict[str, Curve]:
        """Return the curves, or the parts of them that are shown."""
        if self.window is None:
            return self.curves
        return {name: curve.within(*self.window) for name, curve in self.curves.items()}

    def _show_note(self) -> None:
        zoomed = "" if self.window is None else f", {self.window[0]:g} to {self.window[1]:g}"
        note = self.note + zoomed + (", log" if self.log_axis else "")
        if self.cursor is not None:
            values = nearest(self.curves, self.cursor)
            note = f"{self.cursor:g}: " + "  ".join(f"{safe(name, 14)} {number(v)}" for name, v in values.items())
        if note != (self.border_subtitle or ""):
            self.border_subtitle = note

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "ascii_only", False))

    def _version(self) -> object:
        """Return the values that the drawing depends on."""
        curves = tuple((name, len(curve), curve.stride, curve.last) for name, curve in self.curves.items())
        return curves, self.size, self.mark, self.app.theme, self.log_axis, self.cursor, self.window, self.empty

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def render_line(self, y: int) -> Strip:
        version = self._version()
        if self._strips is None or self._strips[0] != version:
            self._strips = (version, self._render_all(self.size.width, self.size.height))
        lines = self._strips[1]
        return lines[y] if y < len(lines) else Strip.blank(self.size.width, self.rich_style)

    def _render_all(self, width: int, height: int) -> list[Strip]:
        base = self.rich_style
        axis_style = self.get_component_rich_style("chart--axis")
        names = self._names()
        plot = self._plot_width(width)
        margin = width - MARGIN - plot
        curves = list(self._visible().values())
        dashed = not getattr(self.app, "coloured", True)
        picture = draw(curves, plot, height - 1, ascii_only=self._ascii, dashed=dashed, log=self.log_axis)
        if picture is None:
            middle = crop(self.empty.center(max(0, width)), width)
            blank = Strip.blank(width, base)
            return [Strip([Segment(middle, axis_style)]) if y == height // 2 else blank for y in range(height)]
        labels, named = picture.axis.labels(), name_rows(picture)
        strips = []
        for y, row in enumerate(picture.rows):
            segments = [Segment(labels.get(y, "").rjust(MARGIN - 1) + " ", axis_style)]
            segments += self._cells(row, plot, base)
            if margin:
                series = named.get(y)
                text = fit(names[series] if series is not None else "", margin - 1)
                segments.append(Segment(" " + text, base if series is None else self._style(series)))
            strips.append(Strip(segments, width))
        strips.append(self._bottom(width, plot, axis_style))
        return strips

    def _names(self) -> list[str]:
        return [f"{self._key(place)}{safe(name, NAMES)}" for place, name in enumerate(self.curves)]

    def _plot_width(self, width: int | None = None) -> int:
        """Return the width between the axis and the names, in a widget of a width (default: this one's)."""
        width = self.size.width if width is None else width
        return width - MARGIN - (max(map(cell_len, self._names()), default=0) + 1 if width > 30 else 0)

    def _cells(self, row: list[tuple[str, int | None]], plot: int, base: Style) -> list[Segment]:
        """Return a line of the plot, with the cursor as a column that the curves stand before."""
        column = self._column(self.cursor, plot)
        if column is not None and row[column][1] is None:
            row = [*row[:column], ("|" if self._ascii else "│", -1), *row[column + 1 :]]
        segments = []
        for owner, cells in groupby(row, key=lambda cell: cell[1]):
            glyphs = "".join(glyph for glyph, _ in cells)
            if owner == -1:
                segments.append(Segment(glyphs, self.get_component_rich_style("chart--cursor")))
            else:
                segments.append(Segment(glyphs, base if owner is None else self._style(owner)))
        return segments

    def _style(self, series: int) -> Style:
        name = list(self.curves)[series]
        return self.get_component_rich_style(f"chart--{self._colours.get(name, series) % SERIES}")

    def _key(self, series: int) -> str:
        """Return the sign before the name of a curve: its letter in ASCII, else a piece of its line."""
        return f"{LETTERS[series % len(LETTERS)]} " if self._ascii else "─ "

    def _extent(self, *, whole: bool = False) -> tuple[float, float]:
        """Return the first and the last x that is drawn, or with `whole` that there is."""
        curves = self.curves if whole else self._visible()
        drawn = [curve for curve in curves.values() if len(curve)]
        return (min(c.first for c in drawn), max(c.end for c in drawn)) if drawn else (0.0, 0.0)

    def _column(self, x: float | None, plot: int) -> int | None:
        """Return the column of cells in which an x is drawn."""
        first, last = self._extent()
        if x is None or not first <= x <= last:
            return None
        return cell_of(x, first, last, plot, ascii_only=self._ascii)

    def _bottom(self, width: int, plot: int, axis: Style) -> Strip:
        """Return the line with the x axis and the mark of the best point."""
        first, last = self._extent()
        line = x_labels(first, last, plot) if plot > 0 else ""
        column = self._column(self.mark, plot)
        if column is not None and plot > 12:
            sign = f"^best {self.mark:g}"
            begin = min(column, plot - len(sign))
            sign = sign if begin == column else f"best {self.mark:g}^"
            begin = begin if begin == column else column - len(sign) + 1
            if begin >= 0:
                # Numbers that the mark would cut are left out.
                before, after = line[: max(0, begin)], line[begin + len(sign) :]
                before = before if before.endswith(" ") or not before else before.rpartition(" ")[0] + " "
                after = after if after.startswith(" ") or not after else " " + after.partition(" ")[2]
                line = before.ljust(begin) + sign + after.rjust(plot - begin - len(sign))
        return Strip([Segment(crop(" " * MARGIN + line, width), axis)])
