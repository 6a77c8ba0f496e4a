"""When a call may leave, and when it is tried again: concurrency, requests and tokens a minute, outages."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
)
from edt_backends.wrappers import ChatWrapper, EmbeddingWrapper, Signal, request_bytes

Reply = TypeVar("Reply", ChatReply, EmbeddingReply)

HEADROOM = 0.97
"""Of what the provider states: its clock is not ours."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Patience:
    """`attempts` of one call, the first one included, at a provider that answers others, `in_outage` at one that
    answers nobody; one that says "too many requests" takes up none. Waits grow from `first` to `longest` seconds.
    A provider that has never answered is given `rounds` of ever longer waits; one that has, `outage` seconds."""

    attempts: int = 8
    in_outage: int = 20
    first: float = 0.5
    longest: float = 60.0
    rounds: int = 6
    outage: float = 7200.0

    def wait(self, failures: int) -> float:
        """Seconds after so many failures in a row, with jitter: half of it is chance."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)


class Rate:
    """So many units a minute, evenly spaced; None: as many as one likes."""

    def __init__(self, limit: float | None) -> None:
        self._stated = self._limit = limit
        self._free_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next may leave."""
        return max(0.0, self._free_at - now)

    def take(self, amount: float, now: float) -> None:
        if self._limit:
            self._free_at = max(self._free_at, now) + amount * 60.0 / (self._limit * HEADROOM)

    def give_back(self, amount: float) -> None:
        if self._limit:
            self._free_at -= amount * 60.0 / (self._limit * HEADROOM)

    def learn(self, limit: float | None, remaining: float | None, reset: float | None, on_way: float) -> None:
        """What the provider says. `on_way`: units that left and that `remaining` may not count yet."""
        if limit:
            self._limit = min(limit, self._stated or limit)
        if remaining is not None and reset and remaining <= on_way:
            self._free_at = max(self._free_at, time.monotonic() + reset)


class Pace:
    """Shared by all calls of a command to one provider; `retries` counts, `waiting_for` says why all are held."""

    def __init__(
        self,
        concurrency: int = 16,
        rpm: float | None = None,
        tpm: float | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.retries = 0
        self._most, self._patience = concurrency, patience or Patience()
        self._requests, self._tokens = Rate(rpm), Rate(tpm)
        self._changed = Signal()
        self._allowed, self._on_way, self._tokens_on_way = float(concurrency), 0, 0
        self._held_until = 0.0
        self._row = self._rounds = 0  # failures in a row; rounds of slowing down since the last answer
        self._failing: set[object] = set()  # calls that failed since the last answer
        self._queue: deque[object] = deque()
        self._stopped: BackendError | None = None
        self._slowed_at = 0.0
        self._answered_at: float | None = None
        self._begun_at = time.monotonic()

    def status(self) -> dict[str, Any]:
        """`held_s`: seconds for which nothing leaves, because of a limit or an outage."""
        held = max(0.0, self._held_until - time.monotonic())
        return {"retries": self.retries, "in_flight": self._on_way, "held_s": round(held, 1)}

    async def call(self, tokens: int, send: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply, after as many tries as patience allows; `tokens` is the most that the call may take.

        Errors: BackendError as it came where trying again is pointless, with `retryable` where this call failed
        and others may not, without where the run should stop.
        """
        attempt, this = 0, object()
        while True:
            await self._turn(tokens, this)
            left_at, used = time.monotonic(), tokens
            try:
                reply = await send()
            except BackendError as error:
                used = 0 if error.unbilled else tokens
                self._learn(error.headers)
                if not error.retryable:
                    self._stopped = error
                    raise
                busy = _says_busy(error)
                attempt += not busy
                self._failing.add(this)
                self._failed(error, busy, left_at)
                wait = max(self._patience.wait(max(1, attempt)), retry_after(error.headers) or 0.0)
                self._check_patience(error, wait)
                outage = self._rounds and len(self._failing) > 1
                if attempt >= (self._patience.in_outage if outage else self._patience.attempts):
                    raise
                self.retries += 1
            else:
                used = reply.usage.prompt_tokens + reply.usage.completion_tokens or tokens
                self._answered()
                self._learn(reply.headers)
                return reply
            finally:
                self._on_way -= 1
                self._tokens_on_way -= tokens
                self._tokens.give_back(tokens - used)
                self._changed.tell()
            await asyncio.sleep(wait)  # which takes up no place

    async def _turn(self, tokens: int, this: object) -> None:
        """Who came first leaves first, so that in an outage each call has its tries. Errors: the run is stopped."""
        self._queue.append(this)
        try:
            while True:
                if self._stopped is not None:
                    raise self._stopped
                wait: float | None = None
                if self._queue[0] is this:
                    now = time.monotonic()
                    wait = max(self._held_until - now, self._requests.wait(now), self._tokens.wait(now))
                    if wait <= 0 and self._on_way < max(1, int(self._allowed)):
                        break
                await self._changed.wait(wait if wait is not None and wait > 0 else None)
        finally:
            self._queue.remove(this)
            self._changed.tell()
        self._on_way += 1
        self._tokens_on_way += tokens
        self._requests.take(1, now)
        self._tokens.take(tokens, now)

    def _answered(self) -> None:
        self._row = self._rounds = 0
        self._failing.clear()
        self._answered_at = time.monotonic()
        self._allowed = min(float(self._most), self._allowed + max(1.0, self._allowed / 4))

    def _failed(self, error: BackendError, busy: bool, left_at: float) -> None:
        """Slow down once for all calls that were on their way together: on "too many requests", and in an outage,
        which is as many failures in a row as half of the calls that are let out."""
        self._row += 1
        now = time.monotonic()
        told = retry_after(error.headers)
        if busy and told is not None:
            self._held_until = max(self._held_until, now + told)
        outage = self._row >= max(3.0, self._allowed / 2)
        if left_at < self._slowed_at or not (busy or outage):
            return
        self._slowed_at = now
        self._rounds += 1
        self._allowed = max(1.0, self._allowed / 2) if busy else 1.0
        if told is None:
            self._held_until = max(self._held_until, now + self._patience.wait(self._rounds))

    def _check_patience(self, error: BackendError, wait: float) -> None:
        """Errors: BackendError where the run should stop; then nothing leaves any more."""
        silent = time.monotonic() - (self._answered_at or self._begun_at)
        if wait > self._patience.outage:
            why = f"it asks to wait for {wait / 3600:.1f} hours: come back then"
        elif self._answered_at is None and self._rounds >= self._patience.rounds and not _says_busy(error):
            why = "it has not answered once"
        elif silent > self._patience.outage:
            why = f"it has not answered for {silent / 3600:.1f} hours"
        else:
            return
        self._stopped = BackendError(f"{error}; {why}", status=error.status, unbilled=True)
        raise self._stopped

    def _learn(self, headers: Mapping[str, str]) -> None:
        limits = RateLimits.read(headers)
        self._requests.learn(*limits.requests, self._on_way - 1)
        self._tokens.learn(*limits.tokens, self._tokens_on_way)


@dataclass(frozen=True)
class RateLimits:
    """Limit a minute, what remains of it, and seconds until it is whole again, of requests and of tokens."""

    requests: tuple[float | None, float | None, float | None]
    tokens: tuple[float | None, float | None, float | None]

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateLimits:
        """OpenAI's headers (x-ratelimit-limit-requests) and Anthropic's (anthropic-ratelimit-requests-limit)."""

        def of(kind: str) -> tuple[float | None, float | None, float | None]:
            found = [
                headers.get(f"x-ratelimit-{what}-{kind}") or headers.get(f"anthropic-ratelimit-{kind}-{what}")
                for what in ("limit", "remaining", "reset")
            ]
            return _number(found[0]), _number(found[1]), _seconds(found[2])

        return cls(of("requests"), of("tokens"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait; None where it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    return _seconds(headers.get("retry-after"))


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e12 else None


def _seconds(text: str | None) -> float | None:
    """Of "3", "1m30.5s", "250ms", an HTTP date or an ISO time."""
    if text is None or (plain := _number(text)) is not None:
        return plain if text is not None else None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        when = datetime.fromisoformat(text) if "T" in text and "-" in text else parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())


def _says_busy(error: BackendError) -> bool:
    return error.status == 429


class PacedChat(ChatWrapper):
    """A chat backend whose calls leave when they may, and are tried again where that may help."""

    def __init__(self, backend: ChatBackend, pace: Pace) -> None:
        super().__init__(backend)
        self._pace = pace

    def status(self) -> dict[str, Any]:
        return self._backend.status() | self._pace.status()

    async def complete(self, request: ChatRequest) -> ChatReply:
        # Tokens of a prompt are guessed at three bytes each here: pacing is set right when the reply says.
        tokens = request_bytes(request) // 3 + request.max_tokens
        return await self._pace.call(tokens, lambda: self._backend.complete(request))


class PacedEmbeddings(EmbeddingWrapper):
    """The same for an embedding backend."""

    def __init__(self, backend: EmbeddingBackend, pace: Pace) -> None:
        super().__init__(backend)
        self._pace = pace

    def status(self) -> dict[str, Any]:
        return self._backend.status() | self._pace.status()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        tokens = sum(len(text.encode("utf-8", "replace")) for text in texts) // 3
        return await self._pace.call(tokens, lambda: self._backend.embed(texts))
