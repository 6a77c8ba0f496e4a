"""Spending limit of a command: the highest cost of a call is reserved before it is sent, then settled."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Usage,
)
from edt_backends.ledger import PICO, Ledger, Outcome
from edt_backends.wrappers import ChatWrapper, EmbeddingWrapper, Signal, request_bytes

Reply = TypeVar("Reply", ChatReply, EmbeddingReply)
Price = tuple[float, float]
"""US dollars per prompt token and per completion token."""
BYTES_A_TOKEN = 32
"""Most bytes of a token, on average over a text; 4 are usual."""


class OutOfBudget(BackendError):
    """The next call could exceed the spending limit of this command."""


def parse_price(text: str) -> Price:
    """Parse `free`, or `IN,OUT` in US dollars per million tokens, such as 0.15,0.6.

    Raises:
        BackendError: If the text is neither.
    """
    if text == "free":
        return 0.0, 0.0
    try:
        prompt, completion = (float(part) / 1e6 for part in text.split(","))
        if 0 <= prompt < 1 and 0 <= completion < 1:
            return prompt, completion
    except ValueError:
        pass
    raise BackendError(f"a price is `free` or IN,OUT in USD for a million tokens, such as 0.15,0.6; got {text!r}")


def pico(usd: float) -> int:
    """Return whole 1e-12 US dollars, rounded up; the error of a float is not rounded up."""
    return math.ceil(usd * PICO - 1e-3)


class Budget:
    """Budget shared by all calls of a command.

    Args:
        ledger: Ledger that every call is recorded in.
        limit_usd: Most US dollars to spend; None for no limit.
    """

    def __init__(self, ledger: Ledger, limit_usd: float | None = None) -> None:
        self._ledger = ledger
        self._limit = None if limit_usd is None else math.floor(limit_usd * PICO + 1e-3)
        self._settled = self._reserved = self._unconfirmed = 0
        self._in_flight = 0
        self._changed = Signal()

    def status(self) -> dict[str, Any]:
        """Return the US dollars of this command; unconfirmed calls count as spent."""
        return {
            "spent_usd": self._settled / PICO,
            "unconfirmed_usd": self._unconfirmed / PICO,
            "reserved_usd": self._reserved / PICO,
            "limit_usd": None if self._limit is None else self._limit / PICO,
        }

    def check(self, name: str, price: Price | float | None, how: str) -> None:
        """Check that a price is known if there is a limit.

        Raises:
            BackendError: If it is not; `how` tells the user how to state a price.
        """
        if self._limit is not None and price is None:
            raise BackendError(f"the price of {name} is not known and --max-cost needs one: state it with {how}")

    async def call(
        self, backend: str, prompt: str, most: int | None, send: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """Send a call within the budget and return its reply.

        Args:
            backend: Name of the backend, for the ledger.
            prompt: Name of the prompt, for the ledger.
            most: Highest possible cost in 1e-12 USD, which counts if the real cost is not reported.
            send: Function that makes the call.

        Raises:
            OutOfBudget: Before the call is sent, if it could exceed the limit.
        """
        number = await self.reserve(backend, prompt, most)
        try:
            reply = await send()
        except BackendError as error:
            outcome: Outcome = "unbilled" if error.unbilled else "unconfirmed"
            await self.settle(number, outcome, most, 0 if error.unbilled else None, Usage())
            raise
        except BaseException:
            await self.settle(number, "unconfirmed", most, None, Usage())
            raise
        cost = reply.usage.cost_usd
        await self.settle(number, "delivered", most, None if cost is None else pico(cost), reply.usage)
        return reply

    def fits(self, amount: int) -> bool:
        """Return whether calls that may cost an amount, in 1e-12 USD, are within the limit beside all others."""
        return self._limit is None or self._settled + self._reserved + amount <= self._limit

    def reached(self, amount: int) -> OutOfBudget:
        """Return the error that a call, which may cost an amount in 1e-12 USD, is beyond the limit."""
        return OutOfBudget(
            f"the limit of {(self._limit or 0) / PICO:g} USD is reached: {self._settled / PICO:.6f} USD are "
            f"spent, and the next call could cost {amount / PICO:.6f}"
        )

    async def reserve(self, backend: str, prompt: str, most: int | None) -> int:
        """Reserve the highest cost of a call, in 1e-12 USD, and return its number in the ledger.

        Raises:
            OutOfBudget: If it is beyond the limit when no call is in flight any more.
        """
        amount = most or 0
        while not self.fits(amount):
            if not self._in_flight:
                raise self.reached(amount)
            await self._changed.wait()  # calls in flight will cost less than was reserved for them
        self._reserved += amount
        self._in_flight += 1
        try:
            return await self._record(backend, prompt, most)
        except BaseException:
            self._release(amount)
            raise

    async def _record(self, backend: str, prompt: str, most: int | None) -> int:
        number = await self._ledger.reserve(backend, prompt, most)
        assert number is not None
        return number

    async def settle(
        self, number: int, outcome: Outcome, most: int | None, spent: int | None, usage: Usage
    ) -> None:
        """Settle a call in the ledger, then release its reservation; `spent` None counts as `most`."""
        amount = most or 0
        try:
            await self._settle(number, outcome, amount, spent, usage)
        finally:
            self._settled += amount if spent is None else spent
            self._unconfirmed += amount if outcome == "unconfirmed" else 0
            self._release(amount)

    async def _settle(self, number: int, outcome: Outcome, amount: int, spent: int | None, usage: Usage) -> None:
        await self._ledger.settle(number, outcome, spent, usage)

    def _release(self, amount: int) -> None:
        self._reserved -= amount
        self._in_flight -= 1
        self._changed.notify()


class BudgetedChat(ChatWrapper):
    """Chat backend whose calls are all in the ledger and within the budget.

    A `price` that the user states replaces the backend's.
    """

    def __init__(self, backend: ChatBackend, budget: Budget, price: Price | None = None) -> None:
        super().__init__(backend)
        self._budget, self._stated = budget, price
        self._notes: list[str] = []
        if price is not None:
            self.paid = any(price)
        budget.check(self.name, self.price_per_token(), "--price IN,OUT or --price free")

    def price_per_token(self) -> Price | None:
        return self._stated or self._backend.price_per_token()

    def status(self) -> dict[str, Any]:
        status = self._backend.status()
        notes = {"notes": [*status.get("notes", ()), *self._notes]} if self._notes else {}
        return status | self._budget.status() | notes

    async def complete(self, request: ChatRequest) -> ChatReply:
        price = self.price_per_token()
        most = None
        if price is not None:
            most = highest_cost(request, price)
        return await self._budget.call(self.name, request.prompt, most, lambda: self._complete(request))

    async def _complete(self, request: ChatRequest) -> ChatReply:
        reply = await self._backend.complete(request)
        usage, price = reply.usage, self.price_per_token()
        believed = believable(usage, request, reply.text)
        if believed != usage:
            self._notes = self._notes or [
                f"{self.name} reports {usage.prompt_tokens:,} tokens in and {usage.completion_tokens:,} out for "
                f"{request_bytes(request):,} bytes in and {len(reply.text.encode()):,} out, which cannot be true: "
                "the most that can be is counted"
            ]
        elif self._stated is None:
            return reply
        if price is None:
            return replace(reply, usage=believed)
        cost = believed.prompt_tokens * price[0] + believed.completion_tokens * price[1]  # none of it as cached
        uncounted = reply.text and not usage.prompt_tokens and any(price)
        return replace(reply, usage=replace(believed, cost_usd=None if uncounted else cost))


def highest_cost(request: ChatRequest, price: Price) -> int:
    """Return the most that a reply to a request can cost, in 1e-12 US dollars."""
    return pico(request_bytes(request) * price[0] + request.max_tokens * price[1])


def believable(usage: Usage, request: ChatRequest, text: str) -> Usage:
    """Return a usage as it is if it may be true, else with the most tokens that may be.

    No tokenizer makes more tokens than bytes, and none makes a text of much fewer than one for `BYTES_A_TOKEN`.
    Thoughts may be counted that are not in the text. A usage of nothing was not reported.
    """
    if usage.prompt_tokens == usage.completion_tokens == 0:
        return usage
    asked, said = request_bytes(request), len(text.encode("utf-8", "replace"))
    sent = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    most = max(request.max_tokens, said)
    prompt = usage.prompt_tokens if sent / BYTES_A_TOKEN <= usage.prompt_tokens <= asked else asked
    completion = usage.completion_tokens if said / BYTES_A_TOKEN <= usage.completion_tokens <= most else most
    return replace(usage, prompt_tokens=prompt, completion_tokens=completion)


class BudgetedEmbeddings(EmbeddingWrapper):
    """Embedding backend whose calls are all in the ledger and within the budget.

    A `price` that the user states, in US dollars per token, replaces the backend's.
    """

    def __init__(self, backend: EmbeddingBackend, budget: Budget, price: float | None = None) -> None:
        super().__init__(backend)
        self._budget, self._stated = budget, price
        if price is not None:
            self.paid = price > 0
        budget.check(self.name, self.price_per_token(), "--set limits.embedder_price=USD (for a million tokens)")

    def price_per_token(self) -> float | None:
        return self._backend.price_per_token() if self._stated is None else self._stated

    def status(self) -> dict[str, Any]:
        return self._backend.status() | self._budget.status()

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        price = self.price_per_token()
        characters = sum(len(text.encode("utf-8", "replace")) + 16 for text in texts)
        most = None if price is None else pico(characters * price)
        return await self._budget.call(self.name, "embed", most, lambda: self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> EmbeddingReply:
        reply = await self._backend.embed(texts)
        if self._stated is None:
            return reply
        tokens = reply.usage.prompt_tokens
        uncounted = not tokens and self._stated > 0
        return replace(reply, usage=replace(reply.usage, cost_usd=None if uncounted else tokens * self._stated))
