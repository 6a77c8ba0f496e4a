"""What an LLM has written, at a glance: how much differs, how much repeats the question, three samples."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from edt_backends.base import ChatRequest, Message

SHINGLE = 5
"""Words that must stand in a question in the same order to be a repetition of it."""
REPEATED = 0.5
"""Share of a text's shingles from which on it repeats the question."""
SAMPLES, SAMPLE_CHARACTERS = 3, 200
MANY = 0.2
"""Share of repeating texts from which on it is warned of."""

_WORD = re.compile(r"\w+")


@dataclass
class Content:
    """Counts of the texts of a stage.

    Attributes:
        texts: Number of texts.
        repeating: Those that repeat the question.
        different: Digests of the different ones.
        samples: Digest and text of a few, the same ones in whatever order texts come.
        repetitions: Likewise one of the repeating texts.
    """

    texts: int = 0
    repeating: int = 0
    different: set[str] = field(default_factory=set)
    samples: list[tuple[str, str]] = field(default_factory=list)
    repetitions: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, question: ChatRequest) -> None:
        """Count a text that answers a question."""
        digest = hashlib.sha256(text.casefold().encode()).hexdigest()[:16]
        sample = digest, text[:SAMPLE_CHARACTERS]
        self.texts += 1
        self.different.add(digest)
        self.samples = sorted({*self.samples, sample})[:SAMPLES]
        if repeats(text, question):
            self.repeating += 1
            self.repetitions = sorted({*self.repetitions, sample})[:1]

    def summary(self) -> dict[str, Any]:
        """Return the counts and samples as JSON values."""
        return {
            "texts": self.texts,
            "different": len(self.different),
            "repeating": self.repeating,
            "samples": [text for _, text in self.samples],
        }

    def warnings(self, what: str) -> list[str]:
        """Return a warning if much of it repeats the question; `what` are the texts."""
        if self.repeating <= MANY * self.texts:
            return []
        (_, shown), *_ = self.repetitions
        return [
            f"{self.repeating:,} of {self.texts:,} {what} repeat what the prompt says, such as: {shown} | they are "
            "of little use: take a more capable model, or look with edt prompts try"
        ]


def repeats(text: str, question: ChatRequest) -> bool:
    """Return whether half of a text or more stands word for word in its question, or whether it has no word."""
    words = _words(text)
    size = min(SHINGLE, len(words))
    shingles = [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)] if words else []
    asked = _said_in(question.messages)
    return sum(f" {shingle} " in asked for shingle in shingles) >= REPEATED * len(shingles)


@lru_cache(maxsize=64)
def _said_in(messages: tuple[Message, ...]) -> str:
    """Return the words of a question between blanks; its texts come one after another."""
    return f" {' '.join(word for message in messages for word in _words(message.content))} "


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
