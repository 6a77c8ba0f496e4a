"""Figures on a terminal, drawn by plotext, each above the table of its numbers.

No information is in colour alone: each series has a sign of its own, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_letters
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from edt_cli.reporting.figure import Figure, Panel
from edt_cli.reporting.figure_data import as_table, cleaned_figure, labels_of, shown
from edt_cli.reporting.palette import COLOURS, linear_ticks, log_ticks
from edt_cli.reporting.terminal import TerminalTable
from edt_cli.reporting.text import ascii_form

BARS, BARS_ASCII = "█▒▓░", "#=.:"
POINTS, POINTS_ASCII = "●×◆+", "ox#+"
LINE, LINE_ASCII = "braille", "."
NARROWEST, WIDEST, HEIGHT = 36, 96, 18
"""Size of a panel in cells; panels stand side by side where there is room."""
GAP = 2
FRAME = str.maketrans("─│┌┐└┘├┤┬┴┼", "-|+++++++++")


@dataclass(frozen=True)
class TerminalFigure:
    """Rich renderable of a figure: its panels, the legend, and the table of its numbers with the notes."""

    figure: Figure

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        figure = cleaned_figure(self.figure)
        signs = _signs(figure, ascii_only=options.ascii_only)

        def written(text: str) -> str:
            return ascii_form(text) if options.ascii_only else text

        yield Text(written(figure.heading), style="bold")
        abreast = max(1, min(len(figure.panels), (options.max_width + GAP) // (NARROWEST + GAP)))
        width = min(WIDEST, (options.max_width + GAP) // abreast - GAP)
        for start in range(0, len(figure.panels), abreast):
            grid = Grid.grid(padding=(0, GAP, 0, 0))
            panels = [
                _Panel(figure, panel, signs, width, ascii_only=options.ascii_only).drawn()
                for panel in figure.panels[start : start + abreast]
            ]
            grid.add_row(*panels)
            yield Text()
            yield grid
        yield Text()
        for label, (sign, colour) in signs.items():
            yield Text.assemble((f"  {sign} ", colour), written(label))
        # The heading stands above; the table's own line is left blank.
        yield TerminalTable(replace(as_table(figure), title=""))


def _signs(figure: Figure, *, ascii_only: bool) -> Mapping[str, tuple[str, str]]:
    """Return the sign and the colour of each series by its label; many series have letters."""
    labels = labels_of(figure)
    if figure.kind == "bars":
        signs = BARS_ASCII if ascii_only else BARS
    else:
        signs = POINTS_ASCII if ascii_only else POINTS
    if len(labels) > len(signs):
        signs = ascii_letters
    return {
        label: (signs[number % len(signs)], COLOURS[number % len(COLOURS)]) for number, label in enumerate(labels)
    }


@dataclass(frozen=True)
class _Panel:
    """A panel of a figure, `width` cells wide."""

    figure: Figure
    panel: Panel
    signs: Mapping[str, tuple[str, str]]
    width: int
    ascii_only: bool

    def drawn(self) -> Text:
        """Return the title with what is upwards, the plot, the ticks, and what is to the right."""
        from plotext import figure as plot  # one for the whole process

        plot.clear()
        plot.canvas("default")
        for axis in ("x", "y"):
            plot.ruler(axis).frequency(0)
        below = self._bars(plot) if self.figure.kind == "bars" else self._curves(plot)
        heading = " | ".join(filter(None, (self.panel.title, self.figure.y.heading if self.figure.y.ticks else "")))
        text = Text(self._written(heading), no_wrap=True, overflow="crop")
        text.append("\n").append_text(self._canvas(str(plot.build())))
        if self.figure.x.ticks:
            below.append(self.figure.x.heading.center(self.width))
        for line in below:
            text.append("\n" + self._written(line.rstrip()))
        return text

    def _bars(self, plot: Any) -> list[str]:
        """Draw bars that are whole cells wide, and return the lines with their categories."""
        series = self.panel.series
        categories = list(dict.fromkeys(str(x) for one in series for x in one.x))
        highest = max([y.mean for one in series for y in one.y if y is not None], default=0.0)
        margin = self._y_ruler(plot, [0.0, highest])
        room = self.width - margin - 2
        group = max(len(series) + 1, room // max(1, len(categories)))
        wide = max(1, (group - 1) // max(1, len(series)))
        group = min(group, wide * len(series) + max(1, group // 6))
        cells = group * len(categories)
        plot.plot_size(margin + 2 + cells, HEIGHT)
        plot.ruler("x").lim(0, cells - 1)
        for number, one in enumerate(series):
            first = (group - wide * len(series)) // 2 + wide * number
            xs: list[int] = []
            ys: list[float] = []
            for x, y in zip(one.x, one.y, strict=True):
                if y is not None and y.mean > 0:
                    start = categories.index(str(x)) * group + first
                    xs += range(start, start + wide)
                    ys += [y.mean] * wide
            if xs:
                plot.draw(plot.signal(xs, ys, marker=self._marker(one.label)).fillx())
        lines = [_wrapped(category, group) for category in categories]
        height = max(map(len, lines), default=0)
        return [
            " " * (margin + 1) + "".join((line[row] if row < len(line) else "").center(group) for line in lines)
            for row in range(height)
        ]

    def _curves(self, plot: Any) -> list[str]:
        """Draw lines with their points, or points alone, and return the line with the ticks of x."""
        points = [
            (one.label, [(self._x(x), y.mean) for x, y in zip(one.x, one.y, strict=True) if y is not None])
            for one in self.panel.series
        ]
        everything = [point for _, of_series in points for point in of_series]
        if not everything:
            plot.plot_size(self.width, HEIGHT)
            return []
        xs, ys = ([point[axis] for point in everything] for axis in (0, 1))
        margin = self._y_ruler(plot, ys) if self.figure.y.ticks else 0
        plot.plot_size(self.width, HEIGHT)
        ticks = self._x_ticks([x for one in self.panel.series for x in one.x])
        low, high = min(*xs, *ticks), max(*xs, *ticks)
        spare = (high - low) * 0.03 or 0.5
        low, high = low - spare, high + spare
        plot.ruler("x").lim(low, high)
        for label, of_series in points:
            along, up = ([point[axis] for point in of_series] for axis in (0, 1))
            if self.figure.kind == "lines" and len(of_series) > 1:
                sign = LINE_ASCII if self.ascii_only else LINE
                plot.draw(plot.signal(along, up, marker=self._marker(label, sign)).lines())
        for label, of_series in points:
            if of_series:
                along, up = ([point[axis] for point in of_series] for axis in (0, 1))
                plot.draw(plot.signal(along, up, marker=self._marker(label)))
        return [_ruler(ticks, low, high, margin + 1, self.width - margin - 2)] if ticks else []

    def _y_ruler(self, plot: Any, values: Sequence[float]) -> int:
        """Set the scale and the ticks upwards, and return the width of their labels."""
        ticks = linear_ticks(min(values), max(values))
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        labels = [f"{tick:,.{digits}f}" for tick in ticks]
        plot.ruler("y").lim(ticks[0], ticks[-1])
        plot.ruler("y").ticks(ticks, labels)
        return max(map(len, labels))

    def _x_ticks(self, values: Sequence[str | float]) -> dict[float, str]:
        numbers = [float(x) for x in values]
        if not self.figure.x.ticks:
            return {}
        if self.figure.x.log:
            return {math.log10(tick): label for tick, label in log_ticks(numbers).items()}
        return {x: shown(x) for x in sorted(set(numbers))}

    def _x(self, x: str | float) -> float:
        return math.log10(float(x)) if self.figure.x.log else float(x)

    def _marker(self, label: str, sign: str = "") -> Any:
        from plotext import marker

        own, colour = self.signs[label]
        return marker(sign or own, tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5)))

    def _canvas(self, drawn: str) -> Text:
        """Return what plotext drew, with the colours of the series only."""
        text = Text.from_ansi(drawn.rstrip("\n"))
        if self.ascii_only:
            plain = text.plain.translate(FRAME)
            text = Text(ascii_form(plain), spans=text.spans)
        text.spans = [span for span in text.spans if getattr(span.style, "bgcolor", None) is None]
        return text

    def _written(self, text: str) -> str:
        return ascii_form(text) if self.ascii_only else text


def _wrapped(label: str, width: int) -> list[str]:
    """Break a category such as 0.1-0.2 in two if it is too wide for its bars."""
    if len(label) < width:
        return [label]
    for mark in "-,":
        head, found, tail = label.partition(mark)
        if found and tail:
            return [head + mark, tail]
    return [label[: width - 1]]


def _ruler(ticks: Mapping[float, str], low: float, high: float, left: int, cells: int) -> str:
    """Return a line with labels under their ticks; a label that would touch the one before is left out."""
    line = ""
    for tick, label in ticks.items():
        middle = left + round((tick - low) / (high - low) * (cells - 1))
        start = max(0, min(middle - len(label) // 2, left + cells + 1 - len(label)))
        if not line or start > len(line):
            line = line.ljust(start) + label
    return line
