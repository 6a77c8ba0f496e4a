"""Shards of users, so that several processes or machines ask an LLM about some of them each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edt_cli.config import UsageError


@dataclass(frozen=True)
class Shard:
    """Users of one shard: those whose name's hash, divided by `of`, leaves `number` - 1.

    Shard 0 has no user, only the questions that all users share.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse NUMBER/OF, such as 3/8.

        Raises:
            UsageError: If it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 0 <= int(found[1]) <= int(found[2]) or int(found[2]) < 1:
            raise UsageError(f"--shard takes NUMBER/OF, such as 3/8 for the third of eight; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def holds(self, name: str) -> bool:
        """Return whether a user is in this shard, by name: on each machine the same."""
        hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(hashed[:8], "big") % self.of == self.number - 1

    def among(self, users: Iterable[int], names: Sequence[str]) -> np.ndarray:
        """Return, for each user's number, whether the user is in this shard: bool [n]."""
        return np.array([self.holds(names[user]) for user in users], bool)
