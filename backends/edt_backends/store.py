"""Replies and vectors on disk: what was paid for once is never asked for again.

A diskcache of JSON values, without pickle and without eviction, shared by any number of processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diskcache

from edt_backends.base import BackendError, Usage
from edt_backends.json_disk import JSONOnlyDisk
from edt_backends.wrappers import question_bytes

Entry = dict[str, Any]

SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "tag_index": 1,
    "disk_min_file_size": 2**30,  # all in the database: no file is left behind by a process that dies
    "sqlite_synchronous": 2,  # a committed reply outlives a loss of power too
    "sqlite_secure_delete": 1,  # what is forgotten is not left lying in the file
}


@dataclass
class ModelStats:
    """What the cache holds of one backend; `cost_usd` is the sum where prices were known."""

    entries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass
class CacheStats:
    """`bytes` is what the cache takes on disk; `models` is by the backend's name."""

    entries: int = 0
    bytes: int = 0
    cost_usd: float = 0.0
    models: dict[str, ModelStats] = field(default_factory=dict)


@dataclass
class Observed:
    """What the cache says of the answers to one prompt by one backend, what was set aside and repairs included.

    `questions` that were asked about `users`; tokens, seconds and `prompt_bytes` are sums over all `replies`.
    """

    questions: int = 0
    replies: int = 0
    users: set[str] = field(default_factory=set)
    prompt_bytes: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class ReplyCache:
    """Entries by key; an entry is a JSON object with at least "backend" (a name), "time" (seconds) and "usage".

    "asked" is all that the key covers (a key is its digest), "users" whose data stood in the question.

    Every method raises BackendError, one line, where the folder cannot be read or written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        with self._one_line():
            self._cache = diskcache.Cache(str(directory), disk=JSONOnlyDisk, **SETTINGS)

    def __contains__(self, key: str) -> bool:
        with self._one_line():
            return key in self._cache

    def get(self, key: str) -> Entry | None:
        with self._one_line():
            entry: Entry | None = self._cache.get(key)
        return entry

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """The entries that there are, by key."""
        found = ((key, self.get(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not None}

    def put(self, entries: Mapping[str, Entry]) -> None:
        """All of them are on disk, for good, when this returns; none is if it does not."""
        with self._one_line(), self._cache.transact():
            for key, entry in entries.items():
                self._cache.set(key, entry, tag=entry["backend"])

    async def save(self, entries: Mapping[str, Entry]) -> None:
        """`put` beside the event loop. What is being written is written, even if the caller is cancelled."""
        writing = asyncio.get_running_loop().run_in_executor(None, self.put, entries)
        await asyncio.shield(writing)

    def set_aside(self, key: str) -> None:
        """Answer no more with this entry, but keep it on record."""
        with self._one_line(), self._cache.transact():
            entry = self._cache.pop(key)
            if entry is not None:
                self._cache.set(f"{key} {entry['time']}", {**entry, "rejected": True}, tag=entry["backend"])

    def add_user(self, key: str, user: str) -> None:
        """Note that this question was about that user too."""
        with self._one_line(), self._cache.transact():
            entry = self._cache.get(key)
            if entry is not None and user not in entry.setdefault("users", []):
                self._cache.set(key, {**entry, "users": [*entry["users"], user]}, tag=entry["backend"])

    def asked_about(self, user: str) -> Iterator[tuple[str, Entry]]:
        """Everything that was asked about the user, those set aside too, oldest first."""
        return ((key, entry) for key, entry in self.entries() if user in entry.get("users", ()))

    def forget(self, user: str) -> int:
        """Remove what was asked about this user, and the name from what was asked about others in the same words;
        how many questions that were."""
        count = 0
        for key, entry in list(self.asked_about(user)):
            others = [name for name in entry["users"] if name != user]
            with self._one_line():
                if others:
                    self._cache.set(key, {**entry, "users": others}, tag=entry["backend"])
                else:
                    self._cache.delete(key)
            count += 1
        with self._one_line():
            self._cache._sql("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds it too
        return count

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All of them, those set aside too, oldest first."""
        with self._one_line():
            for key in self._cache:
                entry = self._cache.get(key)
                if entry is not None:
                    yield key, entry

    def observed(self, backend: str) -> dict[str, Observed]:
        """By the prompt's name and version; a repair counts with the prompt that it repairs ("generate@1")."""
        found: dict[str, Observed] = {}
        questions: dict[str, set[str]] = {}
        for key, entry in self.entries():
            asked = entry.get("asked")
            if asked is None or entry["backend"] != backend:
                continue
            prompt, _, repair = asked["prompt"].partition("+")
            seen = found.setdefault(prompt, Observed())
            usage = Usage(**entry["usage"])
            seen.replies += 1
            seen.prompt_bytes += question_bytes((content for _, content in asked["messages"]), asked["schema"])
            seen.prompt_tokens += usage.prompt_tokens
            seen.completion_tokens += usage.completion_tokens
            seen.seconds += entry.get("seconds", 0.0)
            seen.users.update(entry.get("users", ()))
            if not repair:
                questions.setdefault(prompt, set()).add(key.partition(" ")[0])
        for prompt, seen in found.items():
            seen.questions = len(questions.get(prompt, ()))
        return found

    def stats(self) -> CacheStats:
        """Reads every entry: about a second for each 40,000."""
        stats = CacheStats()
        for _, entry in self.entries():
            model = stats.models.setdefault(entry["backend"], ModelStats())
            usage = Usage(**entry["usage"])
            model.entries += 1
            model.prompt_tokens += usage.prompt_tokens
            model.completion_tokens += usage.completion_tokens
            model.cost_usd += usage.cost_usd or 0.0
        stats.entries = sum(model.entries for model in stats.models.values())
        stats.cost_usd = sum(model.cost_usd for model in stats.models.values())
        with self._one_line():
            stats.bytes = self._cache.volume()
        return stats

    def clear(self, model: str | None = None) -> int:
        """Remove everything, or what the backend of that name answered; the number of entries that went."""
        with self._one_line():
            gone: int = self._cache.clear() if model is None else self._cache.evict(model)
        return gone

    def close(self) -> None:
        self._cache.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, diskcache.Timeout) as error:
            why = str(error) or "it cannot be locked for writing"
            raise BackendError(
                f"the reply cache {self.directory} cannot be used ({why}): is the disk full, the folder "
                "read-only, or another process stuck?"
            ) from error


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
