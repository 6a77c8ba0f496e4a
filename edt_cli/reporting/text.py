"""Text from elsewhere (labels, catalogues, LLMs) made safe to print."""

from __future__ import annotations

import unicodedata

# Marks, embeddings, overrides and isolates of writing direction: they reorder what stands around them.
DIRECTION_CODES = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ASCII_FOR = str.maketrans({"±": "+-", "×": "x", "≥": ">=", "≤": "<=", "τ": "tau", "…": "~", "†": "^", "–": "-"})


def plain(text: str) -> str:
    """`text` on one line: runs of whitespace become one space, control and direction codes go."""
    return harmless(" ".join(text.split()))


def harmless(text: str) -> str:
    """`text` without control codes, but for the ends of lines, and without direction codes.

    Rich lets ESC through in both `str` and `Text`, so a label could otherwise move the cursor or set a title.
    """
    return "".join(
        char
        for char in text
        if char == "\n" or (char not in DIRECTION_CODES and unicodedata.category(char) not in {"Cc", "Cs"})
    )


def ascii_form(text: str) -> str:
    """`text` for a console that has ASCII alone; `?` for what has no likeness in it."""
    return text.translate(ASCII_FOR).encode("ascii", "replace").decode()
