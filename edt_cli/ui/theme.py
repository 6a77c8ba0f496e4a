"""Light and dark theme, and an ASCII mode.

Colours are from the 256-colour cube, so that tmux does not turn them grey, and each is readable on the background.
One accent is for where one is: focus, the section at the front, the cursor. All other colours have a meaning.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from edt_cli.reporting.text import ascii_form
from edt_cli.ui.tones import TONES


def _theme(name: str, *, dark: bool, greys: tuple[str, str, str, str, str], tones: tuple[str, ...]) -> Theme:
    """Return a theme.

    Args:
        name: Name of the theme.
        dark: Whether it is light on dark.
        greys: Colours of text, background, bars, frames and the cursor's row.
        tones: Colours in the order of TONES.
    """
    text, background, panel, frame, cursor = greys
    colour = dict(zip(TONES, tones, strict=True))
    return Theme(
        name=name,
        primary=colour["accent"],
        secondary=colour["series-0"],
        accent=colour["accent"],
        warning=colour["warn"],
        error=colour["bad"],
        success=colour["good"],
        foreground=text,
        background=background,
        surface=background,
        panel=panel,
        dark=dark,
        variables={
            "frame": frame,
            "cursor-row": cursor,
            "footer-key-foreground": colour["accent"],
            **{f"tone-{tone}": value for tone, value in colour.items()},
        },
    )


DARK = _theme(
    "edt-dark",
    dark=True,
    greys=("#e4e4e4", "#121212", "#262626", "#4e4e4e", "#303030"),
    tones=(
        *("#87d787", "#5fd7ff", "#ffd75f", "#ff8787", "#9e9e9e", "#d7afff"),
        *("#5fafff", "#ffaf5f", "#5fd7af", "#ff87d7", "#d7d75f", "#af87ff", "#ff875f", "#bcbcbc"),
    ),
)
LIGHT = _theme(
    "edt-light",
    dark=False,
    greys=("#1c1c1c", "#ffffff", "#e4e4e4", "#b2b2b2", "#eeeeee"),
    tones=(
        *("#005f00", "#005f87", "#875f00", "#af0000", "#626262", "#5f00af"),
        *("#005fd7", "#af5f00", "#005f5f", "#af0087", "#5f5f00", "#5f00d7", "#af0000", "#585858"),
    ),
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
