"""What a screen shows, as text."""

from __future__ import annotations

from textual.app import App


def text_of(app: App[None]) -> str:
    """A line a row, without trailing spaces; as after the app's own filters (ASCII mode, no colour)."""
    width, height = app.size
    lines = []
    for strip in app.screen._compositor.render_strips():
        for line_filter in app.get_line_filters():
            strip = strip.apply_filter(line_filter, app.screen.background_colors[1])
        lines.append("".join(segment.text for segment in strip).rstrip())
    assert len(lines) == height
    return "\n".join(lines) + "\n"
