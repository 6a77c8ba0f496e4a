"""Caching wrappers: a question or a text whose answer is on disk is not sent again."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingCancelled,
    EmbeddingReply,
    Usage,
    Vectors,
)
from edt_backends.question_locks import QuestionLocks
from edt_backends.store import Entry, ReplyCache, digest
from edt_backends.too_long import TooLong
from edt_backends.wrappers import ChatWrapper, EmbeddingWrapper


class CachedChat(ChatWrapper):
    """Chat backend that caches every reply, but no failure.

    The key covers what a reply is to, and nothing about the user: identity, prompt version, messages, schema,
    temperature and seed. The server's address and the most tokens of a reply are beside it: another name of a host
    and more tokens pay for nothing twice, but a reply that was cut off is asked for anew when it may be longer. A
    reply is on disk before it is returned. Equal concurrent requests are sent once, and cancelling a caller does
    not cancel a call that is being paid for. A backend that is not cacheable is passed through.

    Attributes:
        hits: Requests answered from disk, or by a call that was already in flight.
        saved_usd: Original cost of those answers.
    """

    def __init__(self, backend: ChatBackend, cache: ReplyCache, *, retry_failed: bool = False) -> None:
        super().__init__(backend)
        self._cache, self._retry_failed = cache, retry_failed
        self._locks, self._halted = QuestionLocks(cache.directory / "locks"), False
        self._too_long = TooLong(cache.directory)
        self._asked: set[str] = set()  # keys of what this command asked, if failed questions are asked again
        self._elsewhere: list[str] = []  # told once for each other address whose replies answer here
        self._identity: dict[str, Any] | None = None
        self._in_flight: dict[str, asyncio.Task[ChatReply]] = {}
        self.hits, self.saved_usd = 0, 0.0

    @property
    def parts(self) -> tuple[CachedChat, ...]:
        """The backends of which this one asks one or another; itself, if it is but one."""
        return (self,)

    def identity(self) -> dict[str, Any]:
        if self._identity is None:
            self._identity = self._backend.identity()
        return self._identity

    def status(self) -> dict[str, Any]:
        status = self._backend.status()
        notes = {"notes": [*status.get("notes", ()), *self._elsewhere]} if self._elsewhere else {}
        return status | {"hits": self.hits, "saved_usd": self.saved_usd} | notes

    def contains(self, request: ChatRequest) -> bool:
        """Return whether `complete` would answer from disk."""
        return self.cacheable and self._found(request) is not None

    def was_too_long(self, request: ChatRequest) -> bool:
        """Return whether a server has refused this question as too long, and it is not to be asked again."""
        return not self._retry_failed and self._too_long.holds(self.key(request), request.max_tokens)

    def reject(self, request: ChatRequest) -> None:
        if self.cacheable:
            for key in self._keys(request):
                self._cache.set_aside(key)
        self._backend.reject(request)

    def halt(self) -> None:
        self._halted = True
        self._backend.halt()

    def set_aside(self, request: ChatRequest) -> Sequence[ChatReply]:
        if not self.cacheable or self.contains(request):
            return ()
        entries = [entry for key in self._keys(request) for entry in self._cache.set_aside_of(key)]
        return [self._reply(entry) for entry in entries]

    def asks_again(self, request: ChatRequest) -> bool:
        return self._retry_failed and self.cacheable and self.key(request) not in self._asked

    async def complete(self, request: ChatRequest) -> ChatReply:
        if not self.cacheable:
            return await self._backend.complete(request)
        if found := self._found(request):
            return self._hit_of(*found, request)
        facts = self._facts(request)
        key = digest(facts)
        if key in self._in_flight:
            reply = replace(await asyncio.shield(self._in_flight[key]), cached=True)
            self._hit(reply, key, request, ())
            return reply
        if self.was_too_long(request):
            line = f"{self.name}: this question was too long for it before; --retry-failed sends it again"
            raise BackendError(line, only_this=True, unbilled=True)
        task = asyncio.create_task(self._ask(key, facts, request))
        self._in_flight[key] = task
        task.add_done_callback(partial(self._answered, key))
        try:
            return await asyncio.shield(task)
        except BackendError as error:
            if error.only_this and error.status is not None:  # a server said so
                self._too_long.add(key, request.max_tokens)
            raise

    def _found(self, request: ChatRequest) -> tuple[str, Entry] | None:
        """Return the entry that answers a request, with its key; None if there is none."""
        for key in self._keys(request):
            entry = self._cache.get(key)
            if entry is not None and not self._is_outgrown(entry, request):
                return key, entry
        return None

    def _is_outgrown(self, entry: Entry, request: ChatRequest) -> bool:
        """Return whether a reply was cut off that may be longer now."""
        most = entry.get("max_tokens", (entry.get("asked") or {}).get("max_tokens"))
        return entry.get("finish_reason") == "length" and most is not None and most < request.max_tokens

    def _hit_of(self, key: str, entry: Entry, request: ChatRequest) -> ChatReply:
        reply = self._reply(entry)
        self._hit(reply, key, request, entry.get("users", ()))
        address = entry.get("address", (entry.get("asked") or {}).get("identity", {}).get("api_base"))
        if address and address != self.identity().get("api_base"):
            told = (
                f"replies of {self.name} at {address} count as this server's; if it is another model, "
                f"edt cache clear --model {self.name}"
            )
            self._elsewhere += [told] if told not in self._elsewhere else []
        return reply

    def _reply(self, entry: Entry) -> ChatReply:
        try:
            return ChatReply(
                text=entry["reply"],
                usage=Usage(**entry["usage"]),
                model=entry["model"],
                cached=True,
                finish_reason=entry["finish_reason"],
                seconds=entry.get("seconds", 0.0),
            )
        except KeyError:
            raise self._cache.foreign_entry() from None

    def _hit(self, reply: ChatReply, key: str, request: ChatRequest, known: Sequence[str]) -> None:
        self.hits += 1
        self.saved_usd += reply.usage.cost_usd or 0.0
        if request.user is not None and request.user not in known:
            self._cache.add_user(key, request.user)

    async def _ask(self, key: str, facts: Entry, request: ChatRequest) -> ChatReply:
        if self._retry_failed:
            self._asked.add(key)
        async with self._locks.hold(key, self._check_halted):
            if found := self._found(request):  # another process has paid for it meanwhile
                return self._hit_of(*found, request)
            return await self._pay(key, facts, request)

    def _check_halted(self) -> None:
        if self._halted:
            raise BackendError("it was stopped while calls waited", unbilled=True)

    async def _pay(self, key: str, facts: Entry, request: ChatRequest) -> ChatReply:
        begun = time.perf_counter()
        reply = await self._backend.complete(request)
        reply = replace(reply, seconds=round(time.perf_counter() - begun, 3))
        await self._save({key: self._entry(facts, request, reply, self.price_per_token())})
        return reply

    async def keep(
        self, replies: Iterable[tuple[ChatRequest, ChatReply]], price: tuple[float, float] | None
    ) -> None:
        """Put replies into the cache that were paid for in another way, at a price in US dollars per token."""
        entries = {}
        for request, reply in replies:
            facts = self._facts(request)
            entries[digest(facts)] = self._entry(facts, request, reply, price)
        self._asked.update(entries)
        await self._save(entries)

    async def _save(self, entries: dict[str, Entry]) -> None:
        for key in entries:
            if key in self._cache:  # a reply that was cut off, and stays on record
                self._cache.set_aside(key)
        await self._cache.save(entries)

    def _entry(
        self, facts: Entry, request: ChatRequest, reply: ChatReply, price: tuple[float, float] | None
    ) -> Entry:
        return {
            "backend": self.name,
            "model": reply.model,
            "time": time.time(),
            "seconds": reply.seconds,
            "users": [] if request.user is None else [request.user],
            "asked": facts,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
            "max_tokens": request.max_tokens,
            "address": self.identity().get("api_base"),
            "usage": asdict(reply.usage),
            "price": price,
        }

    def _answered(self, key: str, task: asyncio.Task[ChatReply]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            task.exception()  # retrieve it, in case every caller was cancelled meanwhile

    def key(self, request: ChatRequest) -> str:
        """Return the cache key of a request."""
        return digest(self._facts(request))

    def _keys(self, request: ChatRequest) -> Iterator[str]:
        """Yield the key of a request, then the one of before address and most tokens were left out of it."""
        facts = self._facts(request)
        yield digest(facts)
        before = {"identity": self.identity(), "max_tokens": request.max_tokens - self.thinking_tokens}
        yield digest(facts | before)

    def _facts(self, request: ChatRequest) -> Entry:
        return {
            "identity": {name: value for name, value in self.identity().items() if name != "api_base"},
            "prompt": request.prompt,
            "messages": [[message.role, message.content] for message in request.messages],
            "schema": request.schema,
            "temperature": request.temperature,
            "seed": request.seed,
        }


class CachedEmbeddings(EmbeddingWrapper):
    """Embedding backend that caches the vector of each text.

    Only unknown texts are sent, in batches of the backend's size. A batch is on disk before the next is sent,
    and of one that is cancelled, what is finished.

    Attributes:
        cost_usd: Price of all vectors that `embed` has returned, when they were made; None if one is not known.
    """

    def __init__(self, backend: EmbeddingBackend, cache: ReplyCache) -> None:
        super().__init__(backend)
        self._cache = cache
        self.cost_usd: float | None = 0.0

    def prepare(self, texts: Sequence[str]) -> None:
        if any(key not in self._cache for key in self._keys(texts)):
            self._backend.prepare(texts)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        keys = self._keys(texts)
        entries = await asyncio.to_thread(self._cache.get_many, dict.fromkeys(keys))
        try:
            vectors = {
                key: np.frombuffer(base64.b64decode(entry["vector"]), "<f4") for key, entry in entries.items()
            }
            kept = [Usage(**entry["usage"]) for entry in entries.values()]
        except (KeyError, TypeError, ValueError):
            raise self._cache.foreign_entry() from None
        missing = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in vectors]
        missing.sort(key=lambda pair: len(pair[1]))  # texts of similar length need least padding
        spent = Usage()
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            try:
                reply = await self._backend.embed([text for _, text in batch])
            except EmbeddingCancelled as cancelled:
                finished = [(key, cancelled.vectors[text]) for key, text in batch if text in cancelled.vectors]
                await self._cache.save({key: self._entry(vector, Usage()) for key, vector in finished})
                raise
            new = dict(zip((key for key, _ in batch), reply.vectors, strict=True))
            shares = _shares(reply.usage, len(batch))
            await self._cache.save(
                {key: self._entry(vector, share) for (key, vector), share in zip(new.items(), shares, strict=True)}
            )
            vectors |= new
            spent = _sum(spent, reply.usage)
        priced = Usage(cost_usd=self.cost_usd)
        for usage in (*kept, spent):
            priced = _sum(priced, usage)
        self.cost_usd = priced.cost_usd
        if not keys:
            return EmbeddingReply(np.zeros((0, self.dimension or 0), np.float32), spent)
        if len({len(vector) for vector in vectors.values()}) > 1:
            raise self._cache.foreign_entry()
        return EmbeddingReply(np.stack([vectors[key] for key in keys]), spent)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return the texts, each once, that `embed` would send."""
        unique = list(dict.fromkeys(texts))
        return [text for key, text in zip(self._keys(unique), unique, strict=True) if key not in self._cache]

    def _keys(self, texts: Sequence[str]) -> list[str]:
        identity = digest({"identity": self.identity()})
        return [digest({"embedder": identity, "text": text}) for text in texts]

    def _entry(self, vector: Vectors, usage: Usage) -> Entry:
        return {
            "backend": self.name,
            "time": time.time(),
            "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            "usage": asdict(usage),
        }


def _shares(usage: Usage, texts: int) -> list[Usage]:
    """Split the usage of a batch among its texts, so that the shares add up to it."""
    cost = None if usage.cost_usd is None else usage.cost_usd / texts
    each, rest = divmod(usage.prompt_tokens, texts)
    return [Usage(each + (number < rest), 0, cost) for number in range(texts)]


def _sum(a: Usage, b: Usage) -> Usage:
    cost = None if a.cost_usd is None or b.cost_usd is None else a.cost_usd + b.cost_usd
    return Usage(a.prompt_tokens + b.prompt_tokens, a.completion_tokens + b.completion_tokens, cost)
