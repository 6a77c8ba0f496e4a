"""Spending limit of several commands, on one machine or on several: they share a ledger, which holds the limit."""

from __future__ import annotations

import asyncio
import time

from edt_backends.base import Usage
from edt_backends.budget import Budget, OutOfBudget
from edt_backends.ledger import PICO, Held, Ledger, Outcome, Share

POLL_S = 0.5
PATIENCE_S = 60.0
"""Seconds to wait for what others have reserved, while none of them settles a call."""


class SharedBudget(Budget):
    """Budget of all commands that give the same name, shared by all calls of this one.

    What one command reserves is reserved for all, in the transaction that records the call. A command that was
    killed keeps its reservations: those calls may have been paid for.

    Args:
        ledger: Ledger of the commands.
        name: Name of the budget.
        limit_usd: Most US dollars that all may have spent when this command sends a call; None for no limit.
    """

    def __init__(self, ledger: Ledger, name: str, limit_usd: float | None = None) -> None:
        super().__init__(ledger, limit_usd)
        self._share, self._waiting = Share(name, self._limit), 0
        ledger.share(name)

    def reached(self, amount: int) -> OutOfBudget:
        held = self._ledger.held(self._share.name)
        return OutOfBudget(
            f"the limit of {(self._limit or 0) / PICO:g} USD is reached: {held.spent / PICO:.6f} USD are spent and "
            f"{held.reserved / PICO:.6f} reserved by all that share {self._share.name!r}, and the next call could "
            f"cost {amount / PICO:.6f}"
        )

    async def _record(self, backend: str, prompt: str, most: int | None) -> int:
        self._waiting += 1
        try:
            return await self._wait_for(backend, prompt, most)
        finally:
            self._waiting -= 1

    async def _wait_for(self, backend: str, prompt: str, most: int | None) -> int:
        """Record a call once the limit allows it: calls in flight will cost less than is reserved for them."""
        amount, before, since = most or 0, Held(0, 0), time.monotonic()
        while (number := await self._ledger.reserve(backend, prompt, most, self._share)) is None:
            held = await asyncio.to_thread(self._ledger.held, self._share.name)
            if held != before or self._in_flight > self._waiting:
                before, since = held, time.monotonic()
            if held.spent + amount > (self._limit or 0) or time.monotonic() - since > PATIENCE_S:
                raise self.reached(amount)
            await self._changed.wait(POLL_S)
        return number

    async def _settle(self, number: int, outcome: Outcome, amount: int, spent: int | None, usage: Usage) -> None:
        released = self._share, amount, amount if spent is None else spent
        await self._ledger.settle(number, outcome, spent, usage, released=released)
