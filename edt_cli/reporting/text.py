"""Cleaning of text from labels, catalogues and LLMs, so that it is safe to print."""

from __future__ import annotations

import unicodedata

# Marks, embeddings, overrides and isolates of writing direction: they reorder the text around them.
DIRECTION_CODES = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ASCII_FOR = str.maketrans(
    {"±": "+-", "×": "x", "≥": ">=", "≤": "<=", "τ": "tau", "α": "alpha", "−": "-", "…": "~", "†": "^", "–": "-"}
)


def plain(text: str) -> str:
    """Return `text` on one line, with single spaces and without control and direction codes."""
    return harmless(" ".join(text.split()))


def harmless(text: str) -> str:
    """Return `text` without direction codes and without control codes except newlines.

    Rich lets ESC through in both `str` and `Text`, so a label could otherwise move the cursor or set a title.
    """
    return "".join(
        char
        for char in text
        if char == "\n" or (char not in DIRECTION_CODES and unicodedata.category(char) not in {"Cc", "Cs"})
    )


def ascii_form(text: str) -> str:
    """Return `text` in ASCII; characters without a counterpart become `?`."""
    return text.translate(ASCII_FOR).encode("ascii", "replace").decode()
