"""Text from catalogues, LLMs and files, made to fit cells, without markup and terminal codes."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from rich.cells import cell_len, set_cell_size

from edt_cli.reporting.text import plain

LONGEST = 2000
_INVISIBLE = {"Cf", "Co", "Cn", "Zl", "Zp"}


def safe(text: Any, limit: int = LONGEST) -> str:
    """Return text as one line of at most `limit` characters that has the same width on every terminal.

    Joiners, variation selectors and more than two combining marks on a character are left out.
    """
    cleaned = unicodedata.normalize("NFC", plain(str(text)[: 2 * limit]))
    kept: list[str] = []
    marks = 0
    for char in cleaned:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category in _INVISIBLE or "\ufe00" <= char <= "\ufe0f" or marks > 2:
            continue
        kept.append(char)
    whole = "".join(kept)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def fit(text: Any, width: int, *, right: bool = False) -> str:
    """Return `text` in exactly `width` cells, with … where it is cut.

    A space at its end is kept, so that figures with and without a mark stand below each other.
    """
    shown = safe(text, max(width, 1) * 2)
    end = " " if right and str(text).endswith(" ") and not shown.endswith(" ") else ""
    return crop(shown + end, width, right=right)


def crop(shown: str, width: int, *, right: bool = False) -> str:
    """Return a line in exactly `width` cells, keeping its spaces; unlike `fit`, it expects safe text."""
    if width <= 0:
        return ""
    missing = width - cell_len(shown)
    if missing < 0:
        return set_cell_size(shown, width - 1) + "…"
    return " " * missing + shown if right else shown + " " * missing


def paragraph(text: Any, limit: int = 20_000) -> str:
    """Return text with each line made safe."""
    return "\n".join(safe(line) for line in str(text)[:limit].splitlines())


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested values: {"training": {"lr": 0.001}} becomes {"training.lr": "0.001"}."""
    flattened: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flattened |= flat(value, f"{prefix}{name}.")
        else:
            flattened[f"{prefix}{name}"] = (
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
    return flattened


def duration(seconds: float | None) -> str:
    """Format a duration as `41:10`, `3:07:22` or `2d 04h`."""
    if seconds is None or seconds < 0:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02d}h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def ago(seconds: float) -> str:
    """Format an age as `now`, `5m`, `3h` or `12d`."""
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{letter}"
    return "now"


def size(count: float) -> str:
    """Format a number of bytes as `412M` or `4.1G`."""
    for letter in ("", "K", "M", "G"):
        if count < 1000:
            return f"{count:.0f}{letter}" if letter in ("", "K") or count >= 100 else f"{count:.1f}{letter}"
        count /= 1024
    return f"{count:.1f}T"


def short(count: float) -> str:
    """Format a count as `9,933`, `18k` or `5.2M`."""
    if count >= 10e6:
        return f"{count / 1e6:.0f}M"
    if count >= 1e6:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.0f}k" if count >= 10e3 else f"{count:,.0f}"


def bar(share: float, width: int) -> str:
    """Return a bar such as `███░░` that fills `share` (0 to 1) of `width` cells."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)
