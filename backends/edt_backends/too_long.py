"""Questions that a model's server has refused as too long, so that no later command sends them whole again."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "too-long.jsonl"


class TooLong:
    """Record of such questions by their keys, beside the cache; it holds nothing of what they say.

    Attributes:
        file: A line for each: its key, and the tokens that its reply was given. Any process may append one.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / FILE
        self._least: dict[str, int] = {}
        if self.file.is_file():
            for line in self.file.read_text("utf-8", "replace").splitlines():
                self._read(line)

    def add(self, key: str, max_tokens: int) -> None:
        """Record a question that was refused."""
        if self.holds(key, max_tokens):
            return
        self._least[key] = max_tokens
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "max_tokens": max_tokens}) + "\n")

    def holds(self, key: str, max_tokens: int) -> bool:
        """Return whether a question was refused, with as many tokens for its reply or fewer."""
        return key in self._least and self._least[key] <= max_tokens

    def _read(self, line: str) -> None:
        """Read a line; one that was cut off, or that nobody here wrote, says nothing."""
        try:
            document = json.loads(line)
            key, most = str(document["key"]), int(document["max_tokens"])
        except (ValueError, KeyError, TypeError):
            return
        self._least[key] = min(most, self._least.get(key, most))
