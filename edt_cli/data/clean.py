"""Cleaning of catalogue text for prompts, embeddings and terminals, when the data is prepared.

The 2018 release has HTML in titles and descriptions, some of it escaped twice, and for some items the source of the
shop's page in place of the title.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterable
from typing import Any

MAX_CHARACTERS = 2000
# Longer text is cut off before markup is removed; this also bounds the time spent on malicious markup.
MAX_RAW_CHARACTERS = 20_000

_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)|</?[a-z][^<>]*>", re.DOTALL | re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Zero-width characters, marks of writing direction (they can reverse text in a terminal), lone surrogates.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


_NOTHING = {"nan", "none", "null", "n/a", "<na>", "[]", "{}", "['']", '[""]'}
"""Words that other programs write for a text that is not there."""


def is_nothing(text: str) -> bool:
    """Check whether a text only says that there is none."""
    return text.strip().lower() in _NOTHING


def clean_text(text: str) -> str | None:
    """Convert to one line of plain text of at most MAX_CHARACTERS; None if nothing is left."""
    text = html.unescape(html.unescape(text[:MAX_RAW_CHARACTERS]))
    text = _INVISIBLE.sub("", _CONTROL.sub(" ", _MARKUP.sub(" ", text)))
    text = " ".join(text.split())
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS].rsplit(" ", 1)[0]
    return text or None


def unlisted(text: str) -> str:
    """Return the texts of a Python list that was written as text, joined; any other text as it is."""
    if not (text.startswith("[") and text.endswith("]")):
        return text
    try:
        value = ast.literal_eval(text[:MAX_RAW_CHARACTERS])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return flatten(value) or "" if isinstance(value, list) else text


def is_page_source(title: str) -> bool:
    """Check whether a title is the source of the page from which it was scraped."""
    return "getTime()" in title


def flatten(value: Any) -> str | None:
    """Join the distinct texts in a JSON value: a string, or a possibly nested list of strings, in order."""
    parts = dict.fromkeys(_parts(value))
    return ", ".join(parts) or None


def _parts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
