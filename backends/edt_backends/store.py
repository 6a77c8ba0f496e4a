"""On-disk cache of replies and vectors, so that nothing is paid for twice.

It is a diskcache of JSON values, without pickle and without eviction, shared by any number of processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diskcache

from edt_backends.base import BackendError, Usage
from edt_backends.json_disk import JSONOnlyDisk, check_database, foreign
from edt_backends.read_only import ReadOnlyCache
from edt_backends.sqlite import writable
from edt_backends.too_long import FILE as TOO_LONG
from edt_backends.wrappers import question_bytes

Entry = dict[str, Any]

OPENING_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between tries to open a database that another process is making."""
SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "tag_index": 1,
    "disk_min_file_size": 2**30,  # keep all in the database: a process that dies leaves no file behind
    "sqlite_synchronous": 2,  # a committed reply survives a power loss
    "sqlite_secure_delete": 1,  # overwrite deleted content in the file
}


@dataclass
class ModelStats:
    """Totals of one backend's entries; `cost_usd` sums the known prices."""

    entries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass
class CacheStats:
    """Totals of the cache: `bytes` on disk, and `models` by the backend's name."""

    entries: int = 0
    bytes: int = 0
    cost_usd: float = 0.0
    models: dict[str, ModelStats] = field(default_factory=dict)


@dataclass
class Observed:
    """Statistics of one backend's replies to one prompt, including repairs and rejected replies.

    Attributes:
        questions: Number of different questions.
        replies: Number of replies.
        users: Ids of the users that the questions were about.
        prompt_bytes: Sum over all replies, as are the tokens and seconds.
    """

    questions: int = 0
    replies: int = 0
    users: set[str] = field(default_factory=set)
    prompt_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


def _opened(directory: Path) -> diskcache.Cache:
    """Open a database for writing, again if it is locked: processes that make a new one at once lock each other."""
    for wait in OPENING_S:
        try:
            return diskcache.Cache(str(directory), disk=JSONOnlyDisk, **SETTINGS)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(wait)
    return diskcache.Cache(str(directory), disk=JSONOnlyDisk, **SETTINGS)


class ReplyCache:
    """Cache entries by key.

    An entry is a JSON object with at least "backend" (a name), "time" (seconds) and "usage". "asked" holds all that
    the key covers (the key is its digest), "users" the ids of the users whose data the question contained.

    Every method raises BackendError if the folder cannot be read, or written where it has to be.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        with self._one_line():
            check_database(self.directory)
            if writable(self.directory / diskcache.core.DBNAME):
                self._cache = _opened(self.directory)
            else:
                self._cache = ReadOnlyCache(self.directory)

    def __contains__(self, key: str) -> bool:
        with self._one_line():
            return key in self._cache

    def get(self, key: str) -> Entry | None:
        """Return the entry of a key; None if there is none."""
        with self._one_line():
            entry: Entry | None = self._cache.get(key)
        return entry

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the existing entries among some keys."""
        entries = ((key, self.get(key)) for key in keys)
        return {key: entry for key, entry in entries if entry is not None}

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Write entries in one transaction: all are on disk on return, or none is."""
        with self._one_line(), self._cache.transact():
            for key, entry in entries.items():
                self._cache.set(key, entry, tag=entry["backend"])

    async def save(self, entries: Mapping[str, Entry]) -> None:
        """Run `put` in a thread; a cancelled caller does not interrupt the writing."""
        writing = asyncio.get_running_loop().run_in_executor(None, self.put, entries)
        await asyncio.shield(writing)

    def set_aside(self, key: str) -> None:
        """Stop answering with this entry, but keep it on record."""
        with self._one_line(), self._cache.transact():
            entry = self._cache.pop(key)
            if entry is not None:
                self._cache.set(f"{key} {entry['time']}", {**entry, "rejected": True}, tag=entry["backend"])

    def set_aside_of(self, key: str) -> list[Entry]:
        """Return the entries of a key that were set aside, newest first."""
        with self._one_line():
            rows = self._cache._sql("SELECT key FROM Cache WHERE key > ? AND key < ?", (f"{key} ", f"{key}!"))
            entries = [self._cache.get(name) for (name,) in rows.fetchall()]
        return sorted(filter(None, entries), key=lambda entry: -entry["time"])

    def add_user(self, key: str, user: str) -> None:
        """Record that a question was about this user too."""
        with self._one_line(), self._cache.transact():
            entry = self._cache.get(key)
            if entry is not None and user not in entry.setdefault("users", []):
                self._cache.set(key, {**entry, "users": [*entry["users"], user]}, tag=entry["backend"])

    def asked_about(self, user: str) -> Iterator[tuple[str, Entry]]:
        """Yield all entries about a user, including rejected ones, oldest first."""
        return ((key, entry) for key, entry in self.entries() if user in entry.get("users", ()))

    def forget(self, user: str) -> int:
        """Remove a user's entries and return their number.

        Entries that other users share stay, without this user's id.
        """
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
            self._cache._sql("PRAGMA wal_checkpoint(TRUNCATE)")  # the write-ahead log contains them too
        return count

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield all entries, including rejected ones, oldest first."""
        with self._one_line():
            for key in self._cache:
                entry = self._cache.get(key)
                if entry is not None:
                    yield key, entry

    def observed(self, backend: str | None = None) -> dict[str, Observed]:
        """Return statistics of a backend's replies, or all, by prompt name and version, such as "generate@1".

        A repair counts with the prompt that it repairs.
        """
        by_prompt: dict[str, Observed] = {}
        questions: dict[str, set[str]] = {}
        for key, entry in self.entries():
            facts = entry.get("asked")
            if facts is None or backend not in (None, entry["backend"]):
                continue
            prompt, _, repair = facts["prompt"].partition("+")
            stats = by_prompt.setdefault(prompt, Observed())
            usage = Usage(**entry["usage"])
            stats.replies += 1
            stats.prompt_bytes += question_bytes((content for _, content in facts["messages"]), facts["schema"])
            stats.prompt_tokens += usage.prompt_tokens
            stats.cached_tokens += usage.cached_tokens
            stats.completion_tokens += usage.completion_tokens
            stats.seconds += entry.get("seconds", 0.0)
            stats.users.update(entry.get("users", ()))
            if not repair:
                questions.setdefault(prompt, set()).add(key.partition(" ")[0])
        for prompt, stats in by_prompt.items():
            stats.questions = len(questions.get(prompt, ()))
        return by_prompt

    def stats(self) -> CacheStats:
        """Return the totals; reads every entry, about a second per 40,000."""
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
        """Remove all entries, or those of one backend, and return their number."""
        with self._one_line():
            removed: int = self._cache.clear() if model is None else self._cache.evict(model)
            if model is None:
                (self.directory / TOO_LONG).unlink(missing_ok=True)
        return removed

    def foreign_entry(self) -> BackendError:
        """Return the error for an entry that this program did not write."""
        return foreign(self.directory, "an entry")

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
    """Return the SHA-256 of facts as canonical JSON."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
