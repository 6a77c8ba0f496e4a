"""Replies and vectors on disk: what was paid for once is never asked for again.

A diskcache of JSON values, without pickle and without eviction, shared by any number of processes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import diskcache
import numpy as np

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Usage,
    Vectors,
)
from edt_backends.json_disk import JSONOnlyDisk

Entry = dict[str, Any]

SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "tag_index": 1,
    "disk_min_file_size": 2**30,  # all in the database: no file is left behind by a process that dies
    "sqlite_synchronous": 2,  # a committed reply outlives a loss of power too
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


class ReplyCache:
    """Entries by key; an entry is a JSON object with at least "backend" (a name), "time" (seconds) and "usage".

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
            return self._cache.get(key)

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

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All of them, those set aside too, oldest first."""
        with self._one_line():
            for key in self._cache:
                entry = self._cache.get(key)
                if entry is not None:
                    yield key, entry

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
            return self._cache.clear() if model is None else self._cache.evict(model)

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


class CachedChat(ChatBackend):
    """A chat backend that remembers every reply, and no failure.

    The key covers all that can change a reply, and nothing about who asks: identity, prompt version, messages,
    schema, parameters and seed. A reply is on disk before anybody sees it. Equal requests at one time are asked
    once; a caller that is cancelled does not cancel a call that is being paid for. A backend that is not cacheable
    is passed through.
    """

    def __init__(self, backend: ChatBackend, cache: ReplyCache) -> None:
        self.name, self.paid, self.cacheable = backend.name, backend.paid, backend.cacheable
        self._backend, self._cache = backend, cache
        self._asked: dict[str, asyncio.Task[ChatReply]] = {}

    def identity(self) -> dict[str, Any]:
        return self._backend.identity()

    def price_per_token(self) -> tuple[float, float] | None:
        return self._backend.price_per_token()

    def contains(self, request: ChatRequest) -> bool:
        """Whether `complete` would answer from disk."""
        return self.cacheable and self._key(request) in self._cache

    def reject(self, request: ChatRequest) -> None:
        if self.cacheable:
            self._cache.set_aside(self._key(request))
        self._backend.reject(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        if not self.cacheable:
            return await self._backend.complete(request)
        key = self._key(request)
        if entry := self._cache.get(key):
            usage = Usage(**entry["usage"])
            return ChatReply(entry["reply"], usage, entry["model"], True, entry["finish_reason"])
        if key in self._asked:
            return replace(await asyncio.shield(self._asked[key]), cached=True)
        task = asyncio.create_task(self._ask(key, request))
        self._asked[key] = task
        task.add_done_callback(partial(self._answered, key))
        return await asyncio.shield(task)

    async def _ask(self, key: str, request: ChatRequest) -> ChatReply:
        reply = await self._backend.complete(request)
        entry = {
            "backend": self.name,
            "model": reply.model,
            "time": time.time(),
            "prompt": request.prompt,
            "user": request.user,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
            "usage": asdict(reply.usage),
        }
        await self._cache.save({key: entry})
        return reply

    def _answered(self, key: str, task: asyncio.Task[ChatReply]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # seen, also where every caller was cancelled meanwhile

    def _key(self, request: ChatRequest) -> str:
        return _digest(
            identity=self.identity(),
            prompt=request.prompt,
            messages=[[message.role, message.content] for message in request.messages],
            schema=request.schema,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
        )


class CachedEmbeddings(EmbeddingBackend):
    """An embedding backend that remembers the vector of each text.

    Only texts that are not known are asked for, in batches of the backend's size; a batch is on disk before the
    next leaves.
    """

    def __init__(self, backend: EmbeddingBackend, cache: ReplyCache) -> None:
        self.name, self.paid, self.batch_size = backend.name, backend.paid, backend.batch_size
        self._backend, self._cache = backend, cache

    @property
    def dimension(self) -> int | None:
        return self._backend.dimension

    def identity(self) -> dict[str, Any]:
        return self._backend.identity()

    def price_per_token(self) -> float | None:
        return self._backend.price_per_token()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        identity = _digest(identity=self.identity())
        keys = [_digest(embedder=identity, text=text) for text in texts]
        found = await asyncio.to_thread(self._cache.get_many, dict.fromkeys(keys))
        vectors = {key: np.frombuffer(base64.b64decode(entry["vector"]), "<f4") for key, entry in found.items()}
        missing = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in vectors]
        missing.sort(key=lambda pair: len(pair[1]))  # neighbours in length are padded least
        spent = Usage()
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            reply = await self._backend.embed([text for _, text in batch])
            new = dict(zip((key for key, _ in batch), reply.vectors, strict=True))
            shares = _shares(reply.usage, len(batch))
            await self._cache.save(
                {key: self._entry(vector, share) for (key, vector), share in zip(new.items(), shares, strict=True)}
            )
            vectors |= new
            spent = _sum(spent, reply.usage)
        if not keys:
            return EmbeddingReply(np.zeros((0, self.dimension or 0), np.float32), spent)
        return EmbeddingReply(np.stack([vectors[key] for key in keys]), spent)

    def _entry(self, vector: Vectors, usage: Usage) -> Entry:
        return {
            "backend": self.name,
            "time": time.time(),
            "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            "usage": asdict(usage),
        }


def _shares(usage: Usage, texts: int) -> list[Usage]:
    """What each text of a batch is put down for: the sum is what the batch was."""
    cost = None if usage.cost_usd is None else usage.cost_usd / texts
    each, rest = divmod(usage.prompt_tokens, texts)
    return [Usage(each + (number < rest), 0, cost) for number in range(texts)]


def _sum(one: Usage, other: Usage) -> Usage:
    cost = None if one.cost_usd is None or other.cost_usd is None else one.cost_usd + other.cost_usd
    return Usage(one.prompt_tokens + other.prompt_tokens, one.completion_tokens + other.completion_tokens, cost)


def _digest(**facts: Any) -> str:
    """SHA-256 over canonical JSON."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
