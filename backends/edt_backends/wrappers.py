"""Base classes and helpers of the wrappers around a backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edt_backends.base import (
    BatchClient,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    FurtherPrices,
    TextMap,
)


class ChatWrapper(ChatBackend):
    """Chat backend that passes everything on to another; subclasses override what they change."""

    def __init__(self, backend: ChatBackend) -> None:
        self.name, self.paid, self.cacheable = backend.name, backend.paid, backend.cacheable
        self.thinking_tokens = backend.thinking_tokens
        self._backend = backend

    def identity(self) -> dict[str, Any]:
        return self._backend.identity()

    def price_per_token(self) -> tuple[float, float] | None:
        return self._backend.price_per_token()

    def further_prices(self) -> FurtherPrices:
        return self._backend.further_prices()

    def status(self) -> dict[str, Any]:
        return self._backend.status()

    def batches(self) -> BatchClient | None:
        return self._backend.batches()

    def reject(self, request: ChatRequest) -> None:
        self._backend.reject(request)

    def halt(self) -> None:
        self._backend.halt()

    def set_aside(self, request: ChatRequest) -> Sequence[ChatReply]:
        return self._backend.set_aside(request)

    def asks_again(self, request: ChatRequest) -> bool:
        return self._backend.asks_again(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        return await self._backend.complete(request)


class EmbeddingWrapper(EmbeddingBackend):
    """Embedding backend that passes everything on to another; subclasses override what they change."""

    def __init__(self, backend: EmbeddingBackend) -> None:
        self.name, self.paid, self.batch_size = backend.name, backend.paid, backend.batch_size
        self.text_map = backend.text_map
        self._backend = backend

    @property
    def dimension(self) -> int | None:
        return self._backend.dimension

    def identity(self) -> dict[str, Any]:
        return self._backend.identity()

    def price_per_token(self) -> float | None:
        return self._backend.price_per_token()

    def status(self) -> dict[str, Any]:
        return self._backend.status()

    def prepare(self, texts: Sequence[str]) -> None:
        self._backend.prepare(texts)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        return await self._backend.embed(texts)


class MappedEmbeddings(EmbeddingWrapper):
    """Embedding backend that appends the vectors of its fitted text map.

    A row is [backend; map], both parts of length one, scaled to length one again.
    """

    def __init__(self, backend: EmbeddingBackend, fitted: TextMap) -> None:
        super().__init__(backend)
        self.text_map, self._map = None, fitted

    @property
    def dimension(self) -> int | None:
        dimension = self._backend.dimension
        return None if dimension is None else dimension + self._map.dimension

    def identity(self) -> dict[str, Any]:
        return self._backend.identity() | self._map.identity()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        reply = await self._backend.embed(texts)
        joined = np.concatenate([reply.vectors, await asyncio.to_thread(self._map.vectors, texts)], axis=1)
        lengths = np.linalg.norm(joined, axis=1, keepdims=True)
        return replace(reply, vectors=joined / np.maximum(lengths, np.finfo(np.float32).tiny))


class Signal:
    """Condition that wakes all waiting tasks.

    Unlike asyncio's, it can be used from one event loop after another.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake all tasks that wait now."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done() and not future.get_loop().is_closed():
                future.set_result(None)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until `notify` is called or `timeout` seconds have passed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, timeout)
        finally:
            self._waiting.discard(future)


def request_bytes(request: ChatRequest) -> int:
    """Return the `question_bytes` of a request."""
    return question_bytes((message.content for message in request.messages), request.schema)


def question_bytes(contents: Iterable[str], schema: Mapping[str, Any] | None) -> int:
    """Return the bytes of all that a provider may count as the prompt.

    These are the messages with their markers, and the schema. No tokenizer makes more tokens than bytes, so this is
    also an upper bound on the prompt's tokens.
    """
    size = sum(len(content.encode("utf-8", "replace")) + 16 for content in contents)
    return size + 16 + (len(json.dumps(schema)) if schema else 0)
