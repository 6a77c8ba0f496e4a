"""Replies and vectors on disk: what was paid for once is never asked again.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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


class JSONOnlyDisk(diskcache.Disk):
    """Text keys, values as compressed JSON inside the database.

    diskcache's own JSONDisk still unpickles a row that is marked as pickled (CVE-2025-69872), so whoever can write the
    file could run code. Here such a row, like any other that this class did not write, is refused unread.
    """

    def put(self, key: Any) -> Any:
        if not isinstance(key, str):
            raise TypeError("the keys of a reply cache are text")
        return super().put(key)

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise self._foreign()
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        return super().store(zlib.compress(json.dumps(value).encode(), 1), False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != MODE_RAW or not isinstance(value, bytes):
            raise self._foreign()
        return json.loads(zlib.decompress(value))

    def _foreign(self) -> BackendError:
        return BackendError(
            f"the reply cache {self._directory} holds an entry that this program did not write (a pickle, say, which "
            "could run code); it was not read. Find out who wrote it, then clear the cache"
        )


@dataclass
class ModelStats:
    """What the cache holds of one model; `cost_usd` is the sum where prices were known."""

    entries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass
class CacheStats:
    """`bytes` is what the cache takes on disk; `models` is by the model's name."""

    entries: int = 0
    bytes: int = 0
    cost_usd: float = 0.0
    models: dict[str, ModelStats] = field(default_factory=dict)


class ReplyCache:
    """Entries by key. An entry is a JSON object with at least "model" and "time", and "usage" where there was any.

    Every method raises BackendError, one line, where the directory cannot be read or written.
    """

    def __init__(self, directory: Path | str) -> None: ...

    def get(self, key: str) -> Entry | None: ...

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]: ...

    def put(self, key: str, entry: Entry) -> None: ...

    def put_many(self, entries: Mapping[str, Entry]) -> None: ...

    def stats(self) -> CacheStats: ...

    def clear(self, model: str | None = None) -> int: ...

    def close(self) -> None: ...


class CachedChat(ChatBackend):
    """A chat backend that remembers."""

    def __init__(self, backend: ChatBackend, cache: ReplyCache) -> None: ...

    def contains(self, request: ChatRequest) -> bool: ...

    def reject(self, request: ChatRequest) -> None: ...


class CachedEmbeddings(EmbeddingBackend):
    """An embedding backend that remembers each text's vector."""

    def __init__(
        self,
        backend: EmbeddingBackend,
        cache: ReplyCache,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None: ...
