"""What a screen shows, as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.segment import Segment
from textual.app import App


def lines_of(app: App[None]) -> Iterator[list[Segment]]:
    """The segments of each row, as after the app's own filters (ASCII mode, no colour)."""
    for strip in app.screen._compositor.render_strips():
        for line_filter in app.get_line_filters():
            strip = strip.apply_filter(line_filter, app.screen.background_colors[1])
        yield list(strip)


def text_of(app: App[None]) -> str:
    """A line a row, without trailing spaces."""
    lines = ["".join(segment.text for segment in line).rstrip() for line in lines_of(app)]
    assert len(lines) == app.size.height
    return "\n".join(lines) + "\n"
