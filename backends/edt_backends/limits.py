"""Pacing and retries: concurrency, requests and tokens per minute, outages."""

from __future__ import annotations

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
"""Share of the provider's stated limit to use: its clock is not exactly ours."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Patience:
    """How often and how long to retry.

    Attributes:
        attempts: Attempts of one call, the first included, while the provider answers other calls. A "too many
            requests" reply does not count as an attempt.
        in_outage: Attempts of one call while the provider answers none.
        first: Shortest wait between attempts, in seconds.
        longest: Longest wait between attempts, in seconds.
        rounds: Rounds of increasing waits for a provider that has never answered.
        outage: Seconds to wait for a provider that has answered before.
    """

    attempts: int = 8
    in_outage: int = 20
    first: float = 0.5
    longest: float = 60.0
    rounds: int = 6
    outage: float = 7200.0

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after consecutive failures, half of them random jitter."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)


class Rate:
    """Limit in units per minute, evenly spaced; None for no limit."""

    def __init__(self, limit: float | None) -> None:
        self._stated = self._limit = limit
        self._free_at = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may be sent."""
        return max(0.0, self._free_at - now)

    def take(self, amount: float, now: float) -> None:
        if self._limit:
            self._free_at = max(self._free_at, now) + amount * 60.0 / (self._limit * HEADROOM)

    def give_back(self, amount: float) -> None:
        if self._limit:
            self._free_at -= amount * 60.0 / (self._limit * HEADROOM)

    def learn(self, limit: float | None, remaining: float | None, reset: float | None, in_flight: float) -> None:
        """Adjust to the provider's response headers.

        Args:
            limit: Units per minute.
            remaining: Units that are left.
            reset: Seconds until the limit is restored.
            in_flight: Units that were sent and that `remaining` may not count yet.
        """
        if limit:
            self._limit = min(limit, self._stated or limit)
        if remaining is not None and reset and remaining <= in_flight:
            self._free_at = max(self._free_at, time.monotonic() + reset)


class Pace:
    """Pacing and retries shared by all calls of a command to one provider.

    Args:
        concurrency: Most calls in flight at a time.
        rpm: Requests per minute; None for no limit.
        tpm: Tokens per minute; None for no limit.
        patience: How often and how long to retry.
    """

    def __init__(
        self,
        concurrency: int = 16,
        rpm: float | None = None,
        tpm: float | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.retries = 0
        self._concurrency, self._patience = concurrency, patience or Patience()
        self._requests, self._tokens = Rate(rpm), Rate(tpm)
        self._changed, self._ended = Signal(), Signal()
        self._allowed, self._in_flight, self._tokens_in_flight = float(concurrency), 0, 0
        self._held_until = 0.0
        self._failures_in_row = self._rounds = 0  # failures in a row; rounds of slowing down since the last answer
        self._failing: set[object] = set()  # calls that failed since the last answer
        self._queue: deque[object] = deque()
        self._stopped: BackendError | None = None
        self._last_error: BackendError | None = None
        self._slowed_at = 0.0
        self._answered_at: float | None = None
        self._started_at = time.monotonic()

    def status(self) -> dict[str, Any]:
        """Return counters; `held_s` is for how many seconds a limit or an outage holds all calls.

        `error` is the newest failure, while nothing has been answered since.
        """
        held = max(0.0, self._held_until - time.monotonic())
        error = {"error": str(self._last_error)} if self._last_error is not None else {}
        return {"retries": self.retries, "in_flight": self._in_flight, "held_s": round(held, 1), **error}

    def halt(self) -> None:
        """End the calls that wait, now and later; those that are sent go on."""
        self._stop(self._stopped or BackendError("it was stopped while calls waited", unbilled=True))

    def _stop(self, error: BackendError) -> None:
        self._stopped = error
        self._changed.notify()
        self._ended.notify()

    async def call(self, tokens: int, send: Callable[[], Awaitable[Reply]]) -> Reply:
        """Send a call, with retries, and return the reply.

        Args:
            tokens: Most tokens that the call may take.
            send: Function that makes one attempt.

        Raises:
            BackendError: With `retryable` if this call failed and others may not; without it if the run should
                stop.
        """
        attempt, unread, call_id = 0, 0, object()
        while True:
            await self._turn(tokens, call_id)
            left_at, used = time.monotonic(), tokens
            try:
                reply = await send()
            except BackendError as error:
                used = 0 if error.unbilled else tokens
                self._learn(error.headers)
                self._last_error = error
                unread += error.unread
                if error.only_this or unread > 1:
                    raise
                if not error.retryable:
                    self._stop(error)
                    raise
                busy = _says_busy(error)
                attempt += not busy
                self._failing.add(call_id)
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
                self._in_flight -= 1
                self._tokens_in_flight -= tokens
                self._tokens.give_back(tokens - used)
                self._changed.notify()
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        """Wait before another attempt, without a slot, unless the run is stopped meanwhile."""
        if self._stopped is None:
            await self._ended.wait(seconds)

    async def _turn(self, tokens: int, call_id: object) -> None:
        """Wait for the turn of a call: first come, first served, so that each gets its attempts in an outage.

        Raises:
            BackendError: If the run is stopped.
        """
        self._queue.append(call_id)
        try:
            while True:
                if self._stopped is not None:
                    raise self._stopped
                wait: float | None = None
                if self._queue[0] is call_id:
                    now = time.monotonic()
                    wait = max(self._held_until - now, self._requests.wait(now), self._tokens.wait(now))
                    if wait <= 0 and self._in_flight < max(1, int(self._allowed)):
                        break
                await self._changed.wait(wait if wait is not None and wait > 0 else None)
        finally:
            self._queue.remove(call_id)
            self._changed.notify()
        self._in_flight += 1
        self._tokens_in_flight += tokens
        self._requests.take(1, now)
        self._tokens.take(tokens, now)

    def _answered(self) -> None:
        self._failures_in_row = self._rounds = 0
        self._last_error = None
        self._failing.clear()
        self._answered_at = time.monotonic()
        self._allowed = min(float(self._concurrency), self._allowed + max(1.0, self._allowed / 4))

    def _failed(self, error: BackendError, busy: bool, left_at: float) -> None:
        """Slow down on "too many requests" and in an outage.

        All calls that were in flight together slow it down once. An outage is at least three consecutive failures,
        and as many as half of the allowed concurrent calls.
        """
        self._failures_in_row += 1
        now = time.monotonic()
        retry_s = retry_after(error.headers)
        if busy and retry_s is not None:
            self._held_until = max(self._held_until, now + retry_s)
        outage = self._failures_in_row >= max(3.0, self._allowed / 2)
        if left_at < self._slowed_at or not (busy or outage):
            return
        self._slowed_at = now
        self._rounds += 1
        self._allowed = max(1.0, self._allowed / 2) if busy else 1.0
        if retry_s is None:
            self._held_until = max(self._held_until, now + self._patience.wait(self._rounds))

    def _check_patience(self, error: BackendError, wait: float) -> None:
        """Check whether to go on after a failure.

        Raises:
            BackendError: If the run should stop; nothing is sent after that.
        """
        silent = time.monotonic() - (self._answered_at or self._started_at)
        if wait > self._patience.outage:
            why = f"it asks to wait for {wait / 3600:.1f} hours: run the command again after that"
        elif self._answered_at is None and self._rounds >= self._patience.rounds and not _says_busy(error):
            why = "it has never answered"
        elif silent > self._patience.outage:
            why = f"it has not answered for {silent / 3600:.1f} hours"
        else:
            return
        tried = f"tried {self._failures_in_row:,} times in {silent:.0f} s"
        stopped = BackendError(f"{error}; {why}; {tried}", status=error.status, unbilled=True)
        self._stop(stopped)
        raise stopped

    def _learn(self, headers: Mapping[str, str]) -> None:
        limits = RateLimits.read(headers)
        self._requests.learn(*limits.requests, self._in_flight - 1)
        self._tokens.learn(*limits.tokens, self._tokens_in_flight)


@dataclass(frozen=True)
class RateLimits:
    """Rate limits that a provider reports, of requests and of tokens.

    Each is the limit per minute, what remains of it, and the seconds until it is restored.
    """

    requests: tuple[float | None, float | None, float | None]
    tokens: tuple[float | None, float | None, float | None]

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateLimits:
        """Read the headers of OpenAI (x-ratelimit-limit-requests) or Anthropic (anthropic-ratelimit-...)."""

        def of(kind: str) -> tuple[float | None, float | None, float | None]:
            values = [
                headers.get(f"x-ratelimit-{what}-{kind}") or headers.get(f"anthropic-ratelimit-{kind}-{what}")
                for what in ("limit", "remaining", "reset")
            ]
            return _number(values[0]), _number(values[1]), _seconds(values[2])

        return cls(of("requests"), of("tokens"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the provider asks to wait; None if it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    return _seconds(headers.get("retry-after"))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e12 else None


def _seconds(text: str | None) -> float | None:
    """Parse "3", "1m30.5s", "250ms", an HTTP date or an ISO time as seconds from now."""
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
    """Chat backend that keeps to rate limits and retries failed calls."""

    def __init__(self, backend: ChatBackend, pace: Pace) -> None:
        super().__init__(backend)
        self._pace = pace

    def status(self) -> dict[str, Any]:
        return self._backend.status() | self._pace.status()

    def halt(self) -> None:
        self._pace.halt()

    async def complete(self, request: ChatRequest) -> ChatReply:
        # A prompt token is assumed to be three bytes; pacing is corrected when the reply reports the real number.
        tokens = request_bytes(request) // 3 + request.max_tokens
        return await self._pace.call(tokens, lambda: self._backend.complete(request))


class PacedEmbeddings(EmbeddingWrapper):
    """Embedding backend that keeps to rate limits and retries failed calls."""

    def __init__(self, backend: EmbeddingBackend, pace: Pace) -> None:
        super().__init__(backend)
        self._pace = pace

    def status(self) -> dict[str, Any]:
        return self._backend.status() | self._pace.status()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        tokens = sum(len(text.encode("utf-8", "replace")) for text in texts) // 3
        return await self._pace.call(tokens, lambda: self._backend.embed(texts))
