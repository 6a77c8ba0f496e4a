"""Line charts drawn in braille, or in letters on an ASCII-only terminal.

Each column of dots shows the lowest and highest value in it, so many points cost no more than a screenful. Series
differ in colour, in stroke and by the name at their end, never in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from edt_cli.ui.curves import Curve
from edt_cli.ui.text import crop, fit

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LETTERS = "*o+x#@%&"
STROKES = ((1, 1), (4, 6), (1, 3), (6, 8))
"""Strokes as (columns drawn, period): solid, dashed, dotted, long dashes."""
NAMES = 14


@dataclass(frozen=True)
class Picture:
    """Drawn curves: rows of (glyph, series or None), and the range of values."""

    rows: list[list[tuple[str, int | None]]]
    low: float
    high: float
    ends: dict[int, int] = field(default_factory=dict)
    """Row in which each series ends."""


def draw(
    curves: list[Curve], width: int, height: int, *, ascii_only: bool = False, log: bool = False
) -> Picture | None:
    """Draw curves in `width` x `height` cells.

    Args:
        curves: The curves.
        width: Width in cells.
        height: Height in cells.
        ascii_only: Draw with letters instead of braille.
        log: Use a logarithmic axis, which leaves out values that are not above 0.

    Returns:
        The picture, or None if there is nothing to draw.
    """
    across, down = (1, 1) if ascii_only else (2, 4)
    columns, dots = width * across, height * down
    extents = [(curve.first, curve.end) for curve in curves if len(curve)]
    series = [[point for point in curve if not log or point[1] > 0] for curve in curves]
    values = [value for points in series for _, *both in points for value in both if value == value]
    if not values or width < 1 or height < 1:
        return None
    scale = math.log10 if log else float
    first, last = min(begin for begin, _ in extents), max(end for _, end in extents)
    low, high = min(values), max(values)
    bottom, top = scale(low), scale(high)
    pad = (top - bottom) * 0.02 or abs(top) * 0.1 or 1.0
    bottom, top = bottom - pad, top + pad
    x_scale = (columns - 1) / (last - first) if last > first else 0.0
    y_scale = (dots - 1) / (top - bottom)
    cells: list[list[tuple[int, int | None]]] = [[(0, None)] * width for _ in range(height)]
    ends: dict[int, int] = {}
    for number, points in enumerate(series):
        on, period = STROKES[number % len(STROKES)]
        for column, (begin, end) in _spans(points, first, x_scale, bottom, y_scale, scale).items():
            ends[number] = _row(dots, end if end == begin else (begin + end) // 2) // down
            if column % period >= on and not ascii_only:
                continue
            for dot in range(begin, end + 1):
                row = _row(dots, dot)
                cell = cells[row // down]
                bits, owner = cell[column // across]
                mark = number + 1 if ascii_only else DOTS[row % down][column % across]
                cell[column // across] = (mark if ascii_only else bits | mark, number if owner is None else owner)
    rows = [[(_glyph(bits, ascii_only), owner) for bits, owner in row] for row in cells]
    return Picture(rows=rows, low=low, high=high, ends=ends)


def _spans(
    points: list[tuple[float, float, float]],
    first: float,
    x_scale: float,
    bottom: float,
    y_scale: float,
    scale: object,
) -> dict[int, tuple[int, int]]:
    """Return the (lowest, highest) dot of each column of dots, counted from below.

    Columns are joined to the column before, except across a gap.
    """
    assert callable(scale)
    spans: dict[int, tuple[int, int]] = {}
    before: tuple[int, int, int] | None = None
    for x, low, high in points:
        if low != low:
            before = None
            continue
        column = round((x - first) * x_scale)
        begin, end = round((scale(low) - bottom) * y_scale), round((scale(high) - bottom) * y_scale)
        if column in spans:
            begin, end = min(begin, spans[column][0]), max(end, spans[column][1])
        elif before is not None:
            begin, end = _join(spans, before, (column, begin, end))
        spans[column] = (begin, end)
        before = (column, begin, end)
    return spans


def _join(
    spans: dict[int, tuple[int, int]], before: tuple[int, int, int], here: tuple[int, int, int]
) -> tuple[int, int]:
    """Fill the columns between two spans with a straight line, and return the second span extended to touch it."""
    (old, old_begin, old_end), (new, begin, end) = before, here
    start, goal = (old_begin + old_end) / 2, (begin + end) / 2
    steps = new - old
    at = round(start)
    for step in range(1, steps):
        nearer = round(start + (goal - start) * step / steps)
        spans[old + step] = (min(at, nearer), max(at, nearer))
        at = nearer
    if begin > at:
        begin = min(begin, at + 1)
    elif end < at:
        end = max(end, at - 1)
    return begin, end


def _row(dots: int, dot: int) -> int:
    return min(dots - 1, max(0, dots - 1 - dot))


def _glyph(bits: int, ascii_only: bool) -> str:
    if not bits:
        return " "
    return LETTERS[(bits - 1) % len(LETTERS)] if ascii_only else chr(BRAILLE + bits)


class Chart(Widget):
    """Chart of named curves in a frame, with an optional log axis that its owner toggles."""

    DEFAULT_CSS = "Chart { height: 1fr; width: 1fr; min-height: 4; }"
    COMPONENT_CLASSES = {"chart--0", "chart--1", "chart--2", "chart--3", "chart--axis"}
    DEFAULT_CLASSES = "frame"

    def __init__(self, title: str, *, log: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = title
        self.log_axis = log
        self.note = ""
        self.mark: float | None = None
        self._curves: dict[str, Curve] = {}
        self._strips: tuple[object, list[Strip]] | None = None

    def show(self, curves: Mapping[str, Curve], *, note: str = "", mark: float | None = None) -> None:
        """Draw curves, if anything has changed.

        Args:
            curves: Curves by name.
            note: Text in the frame.
            mark: The x of the best point.
        """
        self._curves = dict(curves)
        self.note, self.mark = note, mark
        self.border_subtitle = note
        if self._strips is not None and self._strips[0] != self._version():
            self._strips = None
            self.refresh()

    def draw_now(self, curves: Mapping[str, Curve], width: int, height: int) -> list[Strip]:
        """Return the lines of a chart of the given size, drawn even if nothing has changed."""
        self._curves = dict(curves)
        return self._render_all(width, height)

    def toggle_log(self) -> None:
        """Switch between a linear and a logarithmic axis."""
        self.log_axis = not self.log_axis
        self._strips = None
        self.refresh()

    def _version(self) -> object:
        """Return the values that the drawing depends on."""
        curves = tuple((name, len(curve), curve.stride, curve.last) for name, curve in self._curves.items())
        return curves, self.size, self.mark, self.app.theme, self.log_axis

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
        axis = self.get_component_rich_style("chart--axis")
        styles = [self.get_component_rich_style(f"chart--{number}") for number in range(4)]
        names = [fit(name, min(NAMES, cell_len(name))) for name in self._curves]
        margin = max((cell_len(name) for name in names), default=0) + 1 if width > 30 else 0
        plot = width - 7 - margin
        ascii_only = bool(getattr(self.app, "ascii_only", False))
        curves = list(self._curves.values())
        picture = draw(curves, plot, height - 1, ascii_only=ascii_only, log=self.log_axis)
        if picture is None:
            middle = fit("nothing to draw yet".center(max(0, width)), width)
            blank = Strip.blank(width, base)
            return [Strip([Segment(middle, axis)]) if y == height // 2 else blank for y in range(height)]
        ends = _name_rows(picture.ends, height - 1)
        strips = []
        for y, row in enumerate(picture.rows):
            segments = [Segment(self._value(y, picture, height - 1).rjust(6) + " ", axis)]
            for owner, cells in groupby(row, key=lambda cell: cell[1]):
                glyphs = "".join(glyph for glyph, _ in cells)
                segments.append(Segment(glyphs, base if owner is None else styles[owner % 4]))
            named = ends.get(y)
            if margin:
                text = fit(names[named] if named is not None else "", margin - 1)
                segments.append(Segment(" " + text, base if named is None else styles[named % 4]))
            strips.append(Strip(segments, width))
        strips.append(self._bottom(width, plot, axis))
        return strips

    def _value(self, y: int, picture: Picture, height: int) -> str:
        """Return the axis label of line `y`; only the top, middle and bottom lines have one."""
        if y not in (0, height - 1) and not (height >= 7 and y == height // 2):
            return ""
        low, high = picture.low, picture.high
        share = 1 - y / max(1, height - 1)
        if self.log_axis and low > 0:
            return number(10 ** (math.log10(low) + (math.log10(high) - math.log10(low)) * share))
        return number(low + (high - low) * share)

    def _bottom(self, width: int, plot: int, axis: Style) -> Strip:
        """Return the line with the ends of the x axis and the mark of the best point."""
        drawn = [curve for curve in self._curves.values() if len(curve)]
        first, last = (min(c.first for c in drawn), max(c.end for c in drawn)) if drawn else (0.0, 0.0)
        left, right = f"{first:g}", f"{last:g}"
        line = left + " " * max(1, plot - len(left) - len(right)) + right
        if self.mark is not None and last > first and plot > 12:
            position = round((self.mark - first) / (last - first) * (plot - 1))
            sign = f"^best {self.mark:g}"
            position = min(position, plot - len(sign))
            if position > len(left) and position + len(sign) < plot - len(right):
                line = line[:position] + sign + line[position + len(sign) :]
        return Strip([Segment(crop(" " * 7 + line, width), axis)])


def _name_rows(ends: Mapping[int, int], height: int) -> dict[int, int]:
    """Return the series whose name is shown on each row, with at most one name per row."""
    taken: dict[int, int] = {}
    for series, row in sorted(ends.items(), key=lambda entry: entry[1]):
        free = [y for y in range(height) if y not in taken]
        if free:
            taken[min(free, key=lambda y: (abs(y - row), y))] = series
    return taken


def number(value: float) -> str:
    """Format a number in at most six cells: `.1377`, `12.35`, `1.2e-5`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100_000 or size < 0.0005:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    digits = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}".replace("0.", ".", 1) if size < 1 else f"{value:.{digits}f}"
