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
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
from diskcache.core import MODE_RAW

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

Entry = dict[str, Any]

SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "tag_index": 1,
    "disk_min_file_size": 2**30,  # all in the database: no file is left behind by a process that dies
    "sqlite_synchronous": 2,  # a committed reply outlives a loss of power too
}


class JSONOnlyDisk(diskcache.Disk):
    """Text keys, values as compressed JSON inside the database.

    diskcache's own JSONDisk still unpickles a row that is marked as pickled (CVE-2025-69872), so whoever can write
    the file could run code. Here such a row, like any other that this class did not write, is refused unread.
    """

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise self._foreign()
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        return super().store(zlib.compress(json.dumps(value).encode(), 1), False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != MODE_RAW or not isinstance(value, bytes):
            raise self._foreign()
        try:
            return json.loads(zlib.decompress(value))
        except (zlib.error, ValueError):
            raise self._foreign() from None

    def _foreign(self) -> BackendError:
        return BackendError(
            f"the reply cache {self._directory} holds an entry that this program did not write (a pickle could "
            "run code), so it was not read; find out who wrote it, then move the folder away"
        )


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
    """Entries by key. An entry is a JSON object with at least "model" and "time", and "usage" where there was any.

    Every method raises BackendError, one line, where the directory cannot be read or written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        with self._errors():
            self._cache = diskcache.Cache(
                str(self.directory),
                disk=JSONOnlyDisk,
                disk_min_file_size=2**31 - 1,
                eviction_policy="none",
                cull_limit=0,
                size_limit=2**62,
                # Every commit reaches the disk: a reply that was paid for survives a power cut.
                sqlite_synchronous=2,
            )

    def get(self, key: str) -> Entry | None:
        with self._errors():
            return self._cache.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Those of `keys` that are there."""
        with self._errors(), self._cache.transact():
            found = {key: self._cache.get(key) for key in keys}
        return {key: entry for key, entry in found.items() if entry is not None}

    def put(self, key: str, entry: Entry) -> None:
        """On disk when this returns."""
        self.put_many({key: entry})

    def put_many(self, entries: Mapping[str, Entry]) -> None:
        """All of them or, if the process dies, none."""
        with self._errors(), self._cache.transact(retry=True):
            for key, entry in entries.items():
                self._cache.set(key, entry)

    def stats(self) -> CacheStats:
        total = CacheStats()
        with self._errors():
            total.bytes = sum(file.stat().st_size for file in self.directory.glob("cache.db*"))
            for entry in self._entries():
                model = total.models.setdefault(entry[1]["model"], ModelStats())
                usage = entry[1].get("usage", {})
                cost = usage.get("cost_usd") or 0.0
                model.entries += 1
                model.prompt_tokens += usage.get("prompt_tokens", 0)
                model.completion_tokens += usage.get("completion_tokens", 0)
                model.cost_usd += cost
                total.entries += 1
                total.cost_usd += cost
        return total

    def clear(self, model: str | None = None) -> int:
        """Forget everything, or what one model said; returns how many entries that was."""
        with self._errors():
            gone = [key for key, entry in self._entries() if model is None or entry["model"] == model]
            with self._cache.transact(retry=True):
                for key in gone:
                    self._cache.delete(key)
        return len(gone)

    def close(self) -> None:
        self._cache.close()

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        for key in list(self._cache.iterkeys()):
            entry = self._cache.get(key)
            if entry is not None:
                yield key, entry

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, diskcache.Timeout, zlib.error, ValueError) as error:
            raise BackendError(
                f"the reply cache {self.directory} cannot be used: {type(error).__name__}: {error}"
            ) from None


class CachedChat(ChatBackend):
    """A chat backend that remembers.

    A reply is on disk before it is handed on; a failure is never remembered; the same question asked twice at the
    same time is asked once. A backend that is not `cacheable` is passed through.
    """

    def __init__(self, backend: ChatBackend, cache: ReplyCache) -> None:
        self.backend = backend
        self.cache = cache
        self.name = backend.name
        self.paid = backend.paid
        self.cacheable = backend.cacheable
        self._under_way: dict[str, asyncio.Future[ChatReply]] = {}

    def identity(self) -> dict[str, Any]:
        return self.backend.identity()

    def price_per_token(self) -> tuple[float, float] | None:
        return self.backend.price_per_token()

    def contains(self, request: ChatRequest) -> bool:
        """Whether the cache answers this already."""
        return self.cacheable and self.cache.get(self._key(request)) is not None

    async def complete(self, request: ChatRequest) -> ChatReply:
        if not self.cacheable:
            return await self.backend.complete(request)
        key = self._key(request)
        entry = self.cache.get(key)
        if entry is not None:
            return ChatReply(
                entry["reply"], Usage(**entry["usage"]), entry["model"], True, entry.get("finish_reason", "stop")
            )
        if key in self._under_way:
            return replace(await asyncio.shield(self._under_way[key]), cached=True)
        future = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        try:
            reply = await self.backend.complete(request)
            self.cache.put(
                key,
                {
                    "reply": reply.text,
                    "usage": asdict(reply.usage),
                    "model": reply.model,
                    "finish_reason": reply.finish_reason,
                    "time": time.time(),
                    "prompt": request.prompt,
                    "user": request.user,
                },
            )
            future.set_result(reply)
            return reply
        except BaseException as error:
            future.set_exception(error)
            # Whoever waits hears of it; if nobody does, it was raised here all the same.
            future.exception()
            raise
        finally:
            del self._under_way[key]

    def _key(self, request: ChatRequest) -> str:
        return _digest(
            self.identity(),
            request.prompt,
            [asdict(message) for message in request.messages],
            request.schema,
            request.max_tokens,
            request.temperature,
            request.seed,
        )


class CachedEmbeddings(EmbeddingBackend):
    """An embedding backend that remembers each text's vector; each batch is on disk before the next is asked."""

    def __init__(self, backend: EmbeddingBackend, cache: ReplyCache) -> None:
        self.backend = backend
        self.cache = cache
        self.name = backend.name
        self.paid = backend.paid
        self.batch_size = backend.batch_size

    @property
    def dimension(self) -> int | None:
        return self.backend.dimension

    def identity(self) -> dict[str, Any]:
        return self.backend.identity()

    def price_per_token(self) -> float | None:
        return self.backend.price_per_token()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        identity = self.identity()
        keys = [_digest("embedding", identity, text) for text in texts]
        known = {key: _vector(entry) for key, entry in self.cache.get_many(dict.fromkeys(keys)).items()}
        missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
        usage = Usage()
        for start in range(0, len(missing), self.batch_size):
            part = missing[start : start + self.batch_size]
            reply = await self.backend.embed([text for _, text in part])
            share = Usage(
                reply.usage.prompt_tokens // len(part),
                0,
                None if reply.usage.cost_usd is None else reply.usage.cost_usd / len(part),
            )
            now = time.time()
            self.cache.put_many(
                {
                    key: {
                        "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
                        "usage": asdict(share),
                        "model": self.name,
                        "time": now,
                    }
                    for (key, _), vector in zip(part, reply.vectors, strict=True)
                }
            )
            known |= {key: vector for (key, _), vector in zip(part, reply.vectors, strict=True)}
            usage = _sum(usage, reply.usage)
        return EmbeddingReply(np.stack([known[key] for key in keys]), usage)


def _vector(entry: Entry) -> Vectors:
    return np.frombuffer(base64.b64decode(entry["vector"]), dtype="<f4").astype(np.float32)


def _sum(a: Usage, b: Usage) -> Usage:
    cost = None if a.cost_usd is None or b.cost_usd is None else a.cost_usd + b.cost_usd
    return Usage(a.prompt_tokens + b.prompt_tokens, a.completion_tokens + b.completion_tokens, cost)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
