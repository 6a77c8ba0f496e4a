"""Curves drawn into cells: in braille, or in letters on an ASCII-only terminal, with round numbers on the axes.

Each column of dots shows the lowest and highest value in it, so many points cost no more than a screenful, and a
peak of a single point is always drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edt_cli.ui.curves import Curve

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LETTERS = "*o+x#@%&"
STROKES = ((1, 1), (4, 6), (1, 3), (6, 8))
"""Strokes as (columns drawn, period), where there is no colour: solid, dashed, dotted, long dashes."""
LEAST_SPAN = 0.02
"""Least height of an axis, as a share of its largest value: a change in the fourth digit stays a flat line."""
PAD = 0.03


@dataclass(frozen=True)
class Axis:
    """Vertical axis from `bottom` to `top` (logarithms if `log`), drawn on `rows` lines of `down` dots each."""

    bottom: float
    top: float
    rows: int
    down: int
    log: bool = False

    def dot(self, value: float) -> int:
        """Return the dot of a value, counted from below."""
        scaled = math.log10(value) if self.log else value
        return round((scaled - self.bottom) / (self.top - self.bottom) * (self.rows * self.down - 1))

    def row(self, dot: int) -> int:
        """Return the line of a dot, counted from above."""
        dots = self.rows * self.down
        return min(dots - 1, max(0, dots - 1 - dot)) // self.down

    def labels(self) -> dict[int, str]:
        """Return the text of each line that has a round number."""
        low, high = (10**self.bottom, 10**self.top) if self.log else (self.bottom, self.top)
        most = max(2, self.rows // 3)
        if self.log and high / low >= 10:
            # A third tick in each decade only where there are few.
            factors = (1, 2, 5) if math.log10(high / low) * 3 <= most else (1,)
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            ticks = [factor * 10.0**decade for decade in decades for factor in factors]
            inside = [tick for tick in ticks if low <= tick <= high]
            return {self.row(self.dot(tick)): number(tick) for tick in inside[:: max(1, len(inside) // most)]}
        ticks, digits = round_ticks(low, high, most)
        return {self.row(self.dot(tick)): fixed(tick, digits) for tick in ticks}


@dataclass(frozen=True)
class Picture:
    """Drawn curves: rows of (glyph, series or None), and the axis."""

    rows: list[list[tuple[str, int | None]]]
    axis: Axis
    ends: dict[int, int] = field(default_factory=dict)
    """Dot, counted from below, at which each series ends."""


def draw(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    ascii_only: bool = False,
    dashed: bool = False,
    log: bool = False,
) -> Picture | None:
    """Draw curves in `width` x `height` cells.

    Args:
        curves: The curves.
        width: Width in cells.
        height: Height in cells.
        ascii_only: Draw with letters instead of braille.
        dashed: Give each curve its own stroke; only its level parts are interrupted, so that no peak is lost.
        log: Use a logarithmic axis, which leaves out values that are not above 0.

    Returns:
        The picture, or None if there is nothing to draw.
    """
    across, down = (1, 1) if ascii_only else (2, 4)
    extents = [(curve.first, curve.end) for curve in curves if len(curve)]
    series = [[point for point in curve if not log or point[1] > 0] for curve in curves]
    values = [value for points in series for _, *both in points for value in both if value == value]
    if not values or width < 1 or height < 1:
        return None
    axis = _axis(min(values), max(values), height, down, log)
    first, last = min(begin for begin, _ in extents), max(end for _, end in extents)
    x_scale = (width * across - 1) / (last - first) if last > first else 0.0
    cells: list[list[tuple[int, int | None]]] = [[(0, None)] * width for _ in range(height)]
    dots = height * down
    ends: dict[int, int] = {}
    for series_number, points in enumerate(series):
        on, period = STROKES[series_number % len(STROKES)] if dashed and not ascii_only else (1, 1)
        for column, (begin, end) in _spans(points, first, x_scale, axis).items():
            ends[series_number] = (begin + end) // 2
            if column % period >= on and end - begin <= 1:
                continue
            for dot in range(begin, end + 1):
                row = min(dots - 1, max(0, dots - 1 - dot))
                cell = cells[row // down]
                bits, owner = cell[column // across]
                if not ascii_only:
                    mark = bits | DOTS[row % down][column % across]
                elif owner is None:
                    mark = series_number + 1
                else:
                    mark = bits
                cell[column // across] = (mark, series_number if owner is None else owner)
    rows = [[(_glyph(bits, ascii_only), owner) for bits, owner in row] for row in cells]
    return Picture(rows=rows, axis=axis, ends=ends)


def cell_of(x: float, first: float, last: float, width: int, *, ascii_only: bool = False) -> int:
    """Return the column of cells in which `draw` puts an x, if it draws from `first` to `last`."""
    across = 1 if ascii_only else 2
    return round((x - first) * ((width * across - 1) / (last - first))) // across if last > first else 0


def _axis(low: float, high: float, rows: int, down: int, log: bool) -> Axis:
    """Return the axis of values from `low` to `high`, with some room above and below them."""
    bottom, top = (math.log10(low), math.log10(high)) if log else (low, high)
    least = math.log10(1 + LEAST_SPAN) if log else LEAST_SPAN * max(abs(bottom), abs(top)) or 1.0
    pad = max((top - bottom) * PAD, (least - (top - bottom)) / 2)
    return Axis(bottom - pad, top + pad, rows, down, log)


def _spans(
    points: list[tuple[float, float, float]], first: float, x_scale: float, axis: Axis
) -> dict[int, tuple[int, int]]:
    """Return the (lowest, highest) dot of each column of dots, counted from below.

    Columns are joined to the column before, except across a gap.
    """
    spans: dict[int, tuple[int, int]] = {}
    before: tuple[int, int, int] | None = None
    for x, low, high in points:
        if low != low:
            before = None
            continue
        column = round((x - first) * x_scale)
        begin, end = axis.dot(low), axis.dot(high)
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


def _glyph(bits: int, ascii_only: bool) -> str:
    if not bits:
        return " "
    return LETTERS[(bits - 1) % len(LETTERS)] if ascii_only else chr(BRAILLE + bits)


def name_rows(picture: Picture) -> dict[int, int]:
    """Return the series whose name stands on each line: the order of the names is that of the curves' ends.

    A name stands beside the end of its curve, or as near as the names above and below it leave room. Of more names
    than lines, the first are kept.
    """
    height = picture.axis.rows
    order = sorted(list(picture.ends)[:height], key=lambda series: (-picture.ends[series], series))
    lines: list[int] = []
    for place, series in enumerate(order):
        beside = picture.axis.row(picture.ends[series])
        lines.append(max(beside, lines[-1] + 1 if lines else 0))
        # Move up what would hang out at the bottom, and what that pushes.
        below = height - 1
        for earlier in range(place, -1, -1):
            lines[earlier] = min(lines[earlier], below)
            below = lines[earlier] - 1
    return dict(zip(lines, order, strict=True))


def round_ticks(low: float, high: float, most: int) -> tuple[list[float], int]:
    """Return two to `most` round numbers in [low, high], and the digits that tell them apart."""
    power = math.floor(math.log10(high - low)) if high > low else 0
    best: tuple[list[float], int] = ([low, high] if high > low else [low], 4)
    for exponent in (power - 1, power, power + 1):
        for factor in (1.0, 2.0, 5.0):
            step = factor * 10.0**exponent
            numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
            if len(numbers) < 2:
                return best
            best = ([whole * step for whole in numbers], max(0, -exponent))
            if len(numbers) <= most:
                return best
    return best


def x_labels(first: float, last: float, width: int) -> str:
    """Return a line of `width` cells with round numbers below their columns."""
    if last <= first:
        return f"{first:g}"[:width].ljust(width)
    line = [" "] * width
    widest = max(len(f"{first:.0f}"), len(f"{last:.0f}"))
    ticks, _ = round_ticks(first, last, max(2, width // (widest + 6)))
    whole = [tick for tick in ticks if tick == round(tick)] or [first, last]
    if len(whole) > 1 and 0 < whole[0] - first <= (whole[1] - whole[0]) / 2:
        whole = whole[1:]
    for tick in dict.fromkeys((first, *whole)):
        text = f"{tick:g}"
        begin = round((tick - first) / (last - first) * (width - 1)) - len(text) // 2
        begin = min(max(0, begin), width - len(text))
        if all(char == " " for char in line[max(0, begin - 1) : begin + len(text) + 1]):
            line[begin : begin + len(text)] = text
    return "".join(line)


def nearest(curves: Mapping[str, Curve], x: float) -> dict[str, float]:
    """Return the value of each curve at the bucket nearest to `x`; a curve without a value there is left out."""
    values = {}
    for name, curve in curves.items():
        near = min(curve, key=lambda point: abs(point[0] - x), default=None)
        if near is not None and near[2] == near[2] and abs(near[0] - x) <= max(1.0, curve.stride):
            values[name] = near[2]
    return values


def fixed(value: float, digits: int) -> str:
    """Format a tick with the digits of its axis: `.125`, `3`, `1.2e-5`."""
    if abs(value) < 10.0 ** -(digits + 1):
        return "0"
    if digits > 5 or abs(value) >= 100_000:
        return number(value)
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and digits else text


def number(value: float) -> str:
    """Format a number in at most six cells: `.1377`, `12.35`, `1.2e-5`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100_000 or size < 0.0005:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    digits = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}".replace("0.", ".", 1) if size < 1 else f"{value:.{digits}f}"
