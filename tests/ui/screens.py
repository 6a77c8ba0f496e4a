"""What a screen shows, as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.segment import Segment
from textual.app import App

from edt_cli.ui.rows import Rows


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


def figures_shown(app: App[None]) -> None:
    """Assert that each figure of each visible row of each list stands in its line, whole or not at all."""
    screen = text_of(app).splitlines()
    for rows in app.screen.query(Rows):
        region = rows.scrollable_content_region
        if not rows.count or not region or not rows.is_on_screen:
            continue
        top = rows.scroll_offset.y
        for line in range(rows.head, region.height):
            if (row := line - rows.head + top) >= rows.count:
                break
            drawn = screen[region.y + line][region.x : region.right]
            cells = rows._cell(row)
            for number, room in rows._visible_columns(rows.room):
                cell = cells[number] if number < len(cells) else ""
                if rows.columns[number].right and cell:
                    assert len(cell) <= room and f" {cell} " in f"{drawn}  ", (cell, drawn)
