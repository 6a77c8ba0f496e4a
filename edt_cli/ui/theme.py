"""Light, dark and colourless themes. Colours are from the 256-colour cube, so that tmux does not turn them grey."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from edt_cli.reporting.text import ascii_form

DARK = Theme(
    name="edt-dark",
    primary="#5fafff",
    secondary="#ffaf5f",
    accent="#87d7af",
    warning="#ffd75f",
    error="#ff8787",
    success="#87d787",
    foreground="#e4e4e4",
    background="#121212",
    surface="#121212",
    panel="#262626",
    dark=True,
    variables={
        **{"series-0": "#5fafff", "series-1": "#ffaf5f", "series-2": "#87d787", "series-3": "#d7afff"},
        "frame": "#585858",
    },
)
LIGHT = Theme(
    name="edt-light",
    primary="#005faf",
    secondary="#af5f00",
    accent="#005f5f",
    warning="#875f00",
    error="#af0000",
    success="#005f00",
    foreground="#1c1c1c",
    background="#ffffff",
    surface="#ffffff",
    panel="#e4e4e4",
    dark=False,
    variables={
        **{"series-0": "#005faf", "series-1": "#af5f00", "series-2": "#005f00", "series-3": "#5f00af"},
        "frame": "#a8a8a8",
    },
)

_BOXES = {
    **dict.fromkeys("─━═╌┄▔▁▂▃▀▄╴╶", "-"),
    **dict.fromkeys("│┃║▏▎▍▌▐▕▊▋▉╵╷", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛╔╗╚╝╠╣╦╩╬▗▖▘▝▙▛▜▟", "+"),
    **dict.fromkeys("█▇▆▅", "#"),
    **dict.fromkeys("░▒▓·•", "."),
    "…": "~",
    "×": "x",
    "→": ">",
    "←": "<",
    "↑": "^",
    "↓": "v",
}
BOXES = str.maketrans(_BOXES)


class AsciiOnly(LineFilter):
    """Last filter before the terminal: replaces what widgets draw by ASCII with the same number of cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.control or segment.text.isascii() else Segment(_ascii(segment.text), segment.style)
            for segment in segments
        ]


def _ascii(text: str) -> str:
    from rich.cells import get_character_cell_size

    return "".join(
        char if char.isascii() else ascii_form(char.translate(BOXES))[:1] * get_character_cell_size(char)
        for char in text
    )
