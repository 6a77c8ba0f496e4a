"""Ledger of every call that left this machine and its cost.

A row with the highest possible cost is on disk before a call is sent, and is settled when the answer arrives. A row
that was never settled (the process was killed) counts at that highest cost. Rows contain no texts and no users.

It is a file of the workspace, or a database that several machines share: its URL is in the environment variable
EDT_LEDGER, and nowhere else, as there may be a password in it.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from edt_backends.base import BackendError, Usage
from edt_backends.ledger_store import Entry, ServerStore, SQLiteStore, Store

PICO = 10**12
"""Money is counted in whole 1e-12 US dollars: a sum of floats could creep past a limit."""

ENVIRONMENT = "EDT_LEDGER"
"""Variable with the URL of a ledger that several machines share."""

Outcome = Literal["delivered", "unconfirmed", "unbilled"]

RESERVE = """
INSERT INTO calls (command, number, backend, prompt, "left", most)
VALUES (:command, :number, :backend, :prompt, :left, :most)
"""
SETTLE = """
UPDATE calls SET outcome = :outcome, spent = :spent, prompt_tokens = :prompt_tokens,
                 completion_tokens = :completion_tokens
WHERE command = :command AND number = :number
"""
SAVED = """
INSERT INTO saved (command, backend, hits, amount) VALUES (:command, :backend, :hits, :amount)
ON CONFLICT (command, backend) DO UPDATE SET hits = excluded.hits, amount = excluded.amount
"""
TOTALS = """
SELECT backend, prompt, outcome, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens),
       SUM(CASE outcome WHEN 'delivered' THEN COALESCE(spent, most) WHEN 'unbilled' THEN 0 ELSE most END)
FROM calls GROUP BY backend, prompt, outcome
"""
HITS = "SELECT backend, SUM(hits), SUM(amount) FROM saved GROUP BY backend"
DELIVERED = """
SELECT backend, prompt, prompt_tokens, completion_tokens, spent FROM calls WHERE outcome = 'delivered'
ORDER BY "left"
"""
BEGIN = "INSERT INTO budgets (name) VALUES (:name) ON CONFLICT (name) DO NOTHING"
HOLD = """
UPDATE budgets SET reserved = reserved + :amount WHERE name = :name AND reserved + spent + :amount <= :limit
"""
RELEASE = "UPDATE budgets SET reserved = reserved - :amount, spent = spent + :spent WHERE name = :name"
HELD = "SELECT reserved, spent FROM budgets WHERE name = :name"
NO_LIMIT = 2**62


class Delivered(NamedTuple):
    """A call whose reply came back; `spent` is in 1e-12 USD, None if no cost is known."""

    backend: str
    prompt: str
    prompt_tokens: int
    completion_tokens: int
    spent: int | None


@dataclass
class Account:
    """Totals of all calls to one backend, over all commands.

    `spent_usd` includes `unconfirmed_usd`: the highest possible cost of the calls whose usage was never reported.
    """

    calls: int = 0
    delivered: int = 0
    unconfirmed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent_usd: float = 0.0
    unconfirmed_usd: float = 0.0
    hits: int = 0
    saved_usd: float = 0.0


class Held(NamedTuple):
    """What is reserved and spent of a shared budget, in 1e-12 USD."""

    reserved: int
    spent: int


class Share(NamedTuple):
    """Shared budget by its name, and its limit in 1e-12 USD, None for none."""

    name: str
    limit: int | None


class Ledger:
    """Ledger in a database, shared by any number of processes.

    Raises:
        BackendError: If the database cannot be used; so does every method.
    """

    def __init__(self, store: Path | Store) -> None:
        self.command = uuid.uuid4().hex
        self._number = 0
        self._store = SQLiteStore(store) if isinstance(store, Path) else store
        self._pending: list[tuple[Entry, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    def share(self, name: str) -> None:
        """Open a shared budget, unless another command has opened it."""
        self._store.write([[(BEGIN, {"name": name})]])

    def held(self, name: str) -> Held:
        """Return what all commands have reserved and spent of a shared budget."""
        return Held(*map(int, self._store.read(HELD, {"name": name})[0]))

    async def reserve(self, backend: str, prompt: str, most: int | None, share: Share | None = None) -> int | None:
        """Record a call before it is sent and return its number.

        Args:
            backend: The backend's name.
            prompt: The prompt's name.
            most: Highest possible cost in 1e-12 USD; None if no price is known.
            share: Shared budget that the call is paid of.

        Returns:
            The number; None if the shared budget does not allow the call, which then is not recorded.
        """
        self._number += 1
        number = self._number
        row = {"command": self.command, "number": number, "backend": backend, "prompt": prompt}
        entry = [(RESERVE, row | {"left": time.time(), "most": most})]
        if share is not None:
            limit = NO_LIMIT if share.limit is None else share.limit
            entry.insert(0, (HOLD, {"name": share.name, "amount": most or 0, "limit": limit}))
        return number if await self._write(entry) else None

    async def settle(
        self,
        number: int,
        outcome: Outcome,
        spent: int | None,
        usage: Usage,
        command: str | None = None,
        released: tuple[Share, int, int] | None = None,
    ) -> None:
        """Record the outcome of a call.

        Args:
            number: The call's number.
            outcome: What became of it.
            spent: Its cost in 1e-12 USD, None for the reserved amount.
            usage: Its tokens.
            command: The earlier command whose call it was, if it was not this one's.
            released: Shared budget, the amount that was reserved of it, and the amount to count as spent.
        """
        row = {"command": command or self.command, "number": number, "outcome": outcome, "spent": spent}
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        entry = [(SETTLE, row | tokens)]
        if released is not None:
            share, amount, counted = released
            entry.append((RELEASE, {"name": share.name, "amount": amount, "spent": counted}))
        await self._write(entry)

    def save_hits(self, backend: str, hits: int, amount: int) -> None:
        """Record how many answers this command took from the cache so far, and their original cost."""
        row = {"command": self.command, "backend": backend, "hits": hits, "amount": amount}
        self._store.write([[(SAVED, row)]])

    def accounts(self, by: Literal["backend", "prompt"] = "backend") -> dict[str, Account]:
        """Return the totals by the backend's name, or by that of the prompt, without what the cache answered.

        A prompt's name is without its version and repairs.
        """
        accounts: dict[str, Account] = {}
        for backend, prompt, outcome, *sums in self._store.read(TOTALS, {}):
            calls, prompt_tokens, completion_tokens, amount = (int(part or 0) for part in sums)
            account = accounts.setdefault(backend if by == "backend" else prompt.partition("@")[0], Account())
            account.calls += calls
            account.prompt_tokens += prompt_tokens
            account.completion_tokens += completion_tokens
            account.spent_usd += amount / PICO
            if outcome == "delivered":
                account.delivered += calls
            elif outcome != "unbilled":
                account.unconfirmed += calls
                account.unconfirmed_usd += amount / PICO
        for backend, count, amount in self._store.read(HITS, {}) if by == "backend" else []:
            account = accounts.setdefault(backend, Account())
            account.hits, account.saved_usd = int(count), int(amount) / PICO
        return accounts

    def delivered(self) -> list[Delivered]:
        """Return every call whose reply came back, oldest first."""
        return [Delivered(*row) for row in self._store.read(DELIVERED, {})]

    def close(self) -> None:
        self._store.close()

    async def _write(self, entry: Entry) -> bool:
        """Write one entry; return whether it ran to its end. It is on disk then; concurrent ones share a commit."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._flush())
        return await written

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                found: list[bool] | BackendError = await asyncio.to_thread(
                    self._store.write, [entry for entry, _ in batch]
                )
            except BackendError as caught:
                found = caught
            for number, (_, written) in enumerate(batch):
                if written.done() or written.get_loop().is_closed():
                    continue  # the caller was cancelled; the row is written
                if isinstance(found, BackendError):
                    written.set_exception(found)
                else:
                    written.set_result(found[number])


def has_ledger(path: Path) -> bool:
    """Return whether there is a ledger to read: one that machines share, or the file of a workspace."""
    return bool(os.environ.get(ENVIRONMENT)) or path.is_file()


def open_ledger(path: Path) -> Ledger:
    """Open the ledger of the environment variable EDT_LEDGER, or else the file of a workspace."""
    url = os.environ.get(ENVIRONMENT)
    return Ledger(ServerStore(url) if url else path)
