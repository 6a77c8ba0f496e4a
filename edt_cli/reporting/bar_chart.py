"""Bar charts as text that terminals, log files and readers without colour can show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from edt_cli.reporting.text import ascii_form, plain

EIGHTHS = " ▏▎▍▌▋▊▉"
GAP = "  "
SHORTEST_BAR = 4


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    title: str,
    *,
    width: int = 80,
    ascii: bool = False,
) -> RenderableType:
    """Return a chart of horizontal bars, each with its value and its share of the sum.

    Figure 1 is such a chart, of the users in ten bins of r. No information is in colour alone.

    Args:
        labels: Label of each bar.
        values: Value of each bar, finite and not negative.
        title: Title above the bars.
        width: Maximum width in cells; the console's width is a limit too.
        ascii: Use ASCII only. This is also done if the console's encoding has no block characters.

    Raises:
        ValueError: If a value is negative or not finite, or if the lengths differ.
    """
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise ValueError("a bar's value must be a finite number, 0 or more")
    if len(labels) != len(values):
        raise ValueError(f"{len(labels)} labels for {len(values)} values")
    return _BarChart(
        labels=[plain(label) for label in labels], values=list(values), title=plain(title), width=width, ascii=ascii
    )


@dataclass(frozen=True)
class _BarChart:
    labels: list[str]
    values: list[float]
    title: str
    width: int
    ascii: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        ascii_only = self.ascii or options.ascii_only
        yield Text(ascii_form(self.title) if ascii_only else self.title, style="bold")
        if not self.values:
            yield Text("nothing to show")
            return
        figures = [_number(value) for value in self.values]
        total = sum(self.values)
        shares = [f"{value / total:.1%}" if total else "" for value in self.values]
        figure_width, share_width = max(map(len, figures)), max(map(len, shares))
        free = min(self.width, options.max_width) - figure_width - share_width - 3 * len(GAP)
        label_width = min(max(map(cell_len, self.labels)), max(1, free - SHORTEST_BAR), max(1, free // 2))
        bar_width = max(SHORTEST_BAR, free - label_width)
        largest = max(self.values)
        for label, value, figure, share in zip(self.labels, self.values, figures, shares, strict=True):
            bar = _bar(value / largest if largest else 0.0, bar_width, ascii_only)
            cells = (
                _fit(label, label_width, ascii_only),
                bar.ljust(bar_width),
                figure.rjust(figure_width),
                share.rjust(share_width),
            )
            yield Text(GAP.join(cells).rstrip(), no_wrap=True, overflow="crop")


def _bar(share: float, width: int, ascii_only: bool) -> str:
    """Return a bar that fills `share` (0 to 1) of `width` cells; a share above 0 is always visible."""
    if share == 0:
        return ""
    if ascii_only:
        return "#" * max(1, round(share * width))
    full_cells, eighths = divmod(max(1, round(share * width * 8)), 8)
    return "█" * full_cells + EIGHTHS[eighths].strip()


def _fit(label: str, width: int, ascii_only: bool) -> str:
    if ascii_only:
        label = ascii_form(label)
    if cell_len(label) <= width:
        return set_cell_size(label, width)
    mark = "~" if ascii_only else "…"
    return set_cell_size(label, width - 1) + mark


def _number(value: float) -> str:
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value >= 1000 else f"{value:.4g}"
