"""Figures drawn by matplotlib: PNG, SVG and PDF, and SVG that follows a page's light and dark."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import product
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from edt_cli.config import UserError
from edt_cli.reporting.figure import Figure, Panel
from edt_cli.reporting.figure_data import cleaned_figure, labels_of, shown
from edt_cli.reporting.palette import COLOURS, log_ticks, short_number
from edt_cli.reporting.table import DrawnForm, Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

INK, LINE, PAPER = "#1b1b1b", "#d8d8d8", "#ffffff"
MARKERS = "osD^vPX*<>dph"
SHAPE = (4.4, 3.2)
"""Width and height of a panel in inches."""
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "edt",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
DISTANCES = (7, 14, 24)
"""Distances in points at which the name of a point is tried."""
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Sides of a point (to the right, upwards) on which its name is tried."""
LONGEST, SHORT = 44, 32
"""Characters of a line in a legend, and of a name beside a point."""
FEW = 60
"""Number of points up to which they are large, each with its name beside it."""


def draw(figures: Sequence[Figure], form: DrawnForm) -> bytes:
    """Return figures as a file: one as PNG or SVG, any number as the pages of a PDF.

    A PDF has no titles, as it is for documents with captions of their own. The same figure gives the same bytes.

    Raises:
        UserError: If matplotlib is not installed.
    """
    with _style():
        file = io.BytesIO()
        if form == "pdf":
            from matplotlib.backends.backend_pdf import PdfPages

            with PdfPages(file, metadata={"CreationDate": None}) as pages:
                for figure in figures:
                    pages.savefig(_drawing(cleaned_figure(figure), titled=False))
        else:
            (figure,) = figures
            metadata = {"Date": None} if form == "svg" else {}
            _drawing(cleaned_figure(figure), titled=True).savefig(file, format=form, metadata=metadata)
        return file.getvalue()


def inline_svg(figure: Figure) -> str:
    """Return a figure as SVG for an HTML page, in the colours of its text and lines and on its ground.

    Raises:
        UserError: If matplotlib is not installed.
    """
    figure = cleaned_figure(figure)
    with _style():
        file = io.StringIO()
        drawing = _drawing(figure, titled=False)
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Ids are of the whole page: those of another figure must not stand for this one's marks and clips.
    prefix = f"figure-{crc32(repr(figure).encode()):x}-"
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace(INK, "currentColor").replace(LINE, "var(--line)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.heading)}" ', 1)


@contextmanager
def _style() -> Iterator[None]:
    """Draw in edt's own style, whatever the user's matplotlibrc has, and without matplotlib's warnings.

    Signs that no font here has are boxes in the drawing; warnings of each say no more.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "figures are drawn by matplotlib, which is not installed: pip install 'edt-cli[figures]'"
        ) from None
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE}
    with matplotlib.rc_context(style), warnings.catch_warnings(category=UserWarning, action="ignore"):
        yield


def _drawing(figure: Figure, *, titled: bool) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    columns = min(3, len(figure.panels)) if len(figure.panels) != 4 else 2
    rows = -(-len(figure.panels) // columns)
    width = SHAPE[0] * columns * (1.4 if columns == 1 else 1)
    labels = labels_of(figure)
    legend = _Legend.of([] if _named(figure) else labels, width)
    drawing = Drawing(figsize=(width, SHAPE[1] * rows + 0.3 + legend.height), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    colours = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
    marks = {label: MARKERS[number % len(MARKERS)] for number, label in enumerate(labels)}
    for panel, ax in zip(figure.panels, axes, strict=False):
        _panel(ax, figure, panel, colours, marks)
    for ax in axes[len(figure.panels) :]:
        ax.set_axis_off()
    if titled:
        drawing.suptitle(figure.heading, fontsize=11)
    if legend.labels:
        handles = {
            text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        drawing.legend(
            [handles[label] for label in legend.labels],
            ["\n".join(wrap(label, LONGEST)) for label in legend.labels],
            loc="outside lower center",
            ncols=legend.columns,
            markerscale=3 if _many(figure) else 1,
        )
    if _named(figure):
        drawing.draw_without_rendering()
        for panel, ax in zip(figure.panels, axes, strict=False):
            _name_points(ax, panel)
    return drawing


class _Legend(NamedTuple):
    """Names of the series below the panels."""

    labels: Sequence[str]
    columns: int
    height: float
    """Inches beyond those of one line."""

    @classmethod
    def of(cls, labels: Sequence[str], width: float) -> _Legend:
        """Arrange labels in columns on `width` inches."""
        if not labels:
            return cls((), 1, 0.0)
        longest = min(LONGEST, max(map(len, labels)))
        # Some 14 characters an inch, and five for the sign and the gap of each.
        columns = min(len(labels), max(1, int(14 * width / (longest + 5))))
        lines = -(-sum(len(wrap(label, LONGEST)) for label in labels) // columns)
        return cls(labels, columns, 0.16 * (lines - 1))


def _named(figure: Figure) -> bool:
    """Return whether points have their names beside them: few points with short names."""
    return figure.kind == "points" and not _many(figure) and max(map(len, labels_of(figure)), default=0) <= SHORT


def _panel(ax: Axes, figure: Figure, panel: Panel, colours: Mapping[str, str], marks: Mapping[str, str]) -> None:
    ax.set_title(panel.title, fontsize=10)
    ax.set_xlabel(figure.x.heading)
    ax.set_ylabel(figure.y.heading)
    if figure.kind == "bars":
        _bars(ax, panel, colours)
    else:
        _curves(ax, figure, panel, colours, marks)
    if not figure.x.ticks:
        ax.set(xticks=[], yticks=[])
        ax.spines[["right", "top"]].set_visible(True)
    elif figure.x.log:
        ticks = log_ticks([float(x) for series in panel.series for x in series.x])
        ax.set_xscale("log")
        ax.set_xticks(list(ticks), list(ticks.values()))
        ax.set_xticks([], minor=True)
        ax.set_xlim(min(ticks), max(ticks))
        ax.set_ylim(bottom=0)


def _bars(ax: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    categories = list(dict.fromkeys(str(x) for series in panel.series for x in series.x))
    width = 0.8 / max(1, len(panel.series))
    for number, series in enumerate(panel.series):
        there = [(categories.index(str(x)), y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        places = [place - 0.4 + width * (number + 0.5) for place, _ in there]
        ax.bar(
            places,
            [y.mean for _, y in there],
            width * 0.92,
            label=series.label,
            color=colours[series.label],
            yerr=_deviations([y for _, y in there]),
            error_kw={"elinewidth": 0.8, "ecolor": INK},
        )
        for place, (_, y) in zip(places, there, strict=True):
            _flag(ax, place, y)
    ax.set_xticks(range(len(categories)), categories)
    if len(categories) > 6:
        ax.tick_params("x", labelsize=8)
    ax.yaxis.set_major_formatter(lambda value, _: short_number(round(value, 10)))


def _curves(ax: Axes, figure: Figure, panel: Panel, colours: Mapping[str, str], marks: Mapping[str, str]) -> None:
    many = _many(figure)
    for series in panel.series:
        there = [(float(x), y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        style: dict[str, Any] = {"color": colours[series.label], "marker": marks[series.label]}
        if figure.kind == "points":
            style |= {"linestyle": "none", "markersize": 2.2 if many else 7, "markeredgewidth": 0}
            style |= {"alpha": 0.7} if many else {}
        ax.errorbar(
            [x for x, _ in there],
            [y.mean for _, y in there],
            yerr=_deviations([y for _, y in there]),
            label=series.label,
            capsize=2,
            elinewidth=0.8,
            **style,
        )
        for x, y in there:
            _flag(ax, x, y)
    if figure.kind == "lines":
        values = sorted({float(x) for series in panel.series for x in series.x})
        ax.set_xticks(values, [shown(x) for x in values])
        ax.margins(y=0.15)


def _many(figure: Figure) -> bool:
    return max((sum(len(series.x) for series in panel.series) for panel in figure.panels), default=0) > FEW


def _deviations(values: Sequence[Measure]) -> list[float] | None:
    """Return the deviations over seeds, or None if no value has one."""
    if not any(value.deviation for value in values):
        return None
    return [value.deviation or 0.0 for value in values]


def _flag(ax: Axes, x: float, value: Measure) -> None:
    """Put the flag of a value above it."""
    if value.flag:
        ax.annotate(value.flag, (x, value.mean), xytext=(0, 3), textcoords="offset points", ha="center")


def _name_points(ax: Axes, panel: Panel) -> None:
    """Write the name of each series beside its point, where it covers no other name or point if that can be."""
    points = [(s.label, (float(x), y.mean)) for s in panel.series for x, y in zip(s.x, s.y, strict=True) if y]
    pixels = [ax.transData.transform(place) for _, place in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels]
    frame = ax.get_window_extent()
    for label, place in points:
        best = None
        for distance, (side, up) in product(DISTANCES, SIDES):
            text = ax.annotate(
                label,
                place,
                xytext=(side * distance, up * distance),
                textcoords="offset points",
                ha=("right", "center", "left")[side + 1],
                va=("top", "center", "bottom")[up + 1],
                fontsize=8,
                color=INK,
            )
            box = text.get_window_extent()
            sides = (box.x0, box.y0, box.x1, box.y1)
            inside = frame.x0 - 2 <= box.x0 and box.x1 <= frame.x1 + 2 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            cover = sum(_overlap(sides, other) for other in taken) + (0 if inside else 1e6)
            if best is None or cover < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cover, text, sides)
            else:
                text.remove()
            if cover == 0:
                break
        if best is not None:
            taken.append(best[2])


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the area that two boxes (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
