"""Ledger of every call that left this machine and its cost.

A row with the highest possible cost is on disk before a call is sent, and is settled when the answer arrives. A row
that was never settled (the process was killed) counts at that highest cost. Rows contain no texts and no users.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edt_backends.base import BackendError, Usage
from edt_backends.sqlite import connect_read_only, writable

PICO = 10**12
"""Money is counted in whole 1e-12 US dollars: a sum of floats could creep past a limit."""

Row = tuple[str, tuple[Any, ...]]
Outcome = Literal["delivered", "unconfirmed", "unbilled"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    command TEXT NOT NULL, number INTEGER NOT NULL, backend TEXT NOT NULL, prompt TEXT NOT NULL, left REAL NOT NULL,
    most INTEGER, spent INTEGER, outcome TEXT NOT NULL DEFAULT 'open',
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (command, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS saved (
    command TEXT NOT NULL, backend TEXT NOT NULL, hits INTEGER NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (command, backend)) WITHOUT ROWID;
"""
RESERVE = "INSERT INTO calls (command, number, backend, prompt, left, most) VALUES (?, ?, ?, ?, ?, ?)"
SETTLE = """
UPDATE calls SET outcome = ?, spent = ?, prompt_tokens = ?, completion_tokens = ? WHERE command = ? AND number = ?
"""
SAVED = "INSERT OR REPLACE INTO saved (command, backend, hits, amount) VALUES (?, ?, ?, ?)"
TOTALS = """
SELECT {by}, outcome, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens),
       SUM(CASE outcome WHEN 'delivered' THEN COALESCE(spent, most) WHEN 'unbilled' THEN 0 ELSE most END)
FROM calls GROUP BY {by}, outcome
"""
DELIVERED = """
SELECT backend, prompt, prompt_tokens, completion_tokens, spent FROM calls WHERE outcome = 'delivered' ORDER BY left
"""
GROUPS = {"backend": "backend", "prompt": "substr(prompt, 1, instr(prompt || '@', '@') - 1)"}
"""What calls are grouped by: the backend's name, or the prompt's without its version and repairs."""


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


class Ledger:
    """SQLite file of calls, shared by any number of processes.

    Raises:
        BackendError: If the file cannot be used; so does every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.command = uuid.uuid4().hex
        self._number = 0
        self._lock = threading.Lock()
        self._pending: list[tuple[Row, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        with self._one_line():
            if path.exists() and not writable(path):
                self._database = connect_read_only(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # a reservation outlives a loss of power
            self._database.executescript(SCHEMA)

    async def reserve(self, backend: str, prompt: str, most: int | None) -> int:
        """Record a call before it is sent and return its number.

        `most` is the highest possible cost in 1e-12 USD; None if no price is known.
        """
        self._number += 1
        number = self._number
        await self._write(RESERVE, (self.command, number, backend, prompt, time.time(), most))
        return number

    async def settle(
        self, number: int, outcome: Outcome, spent: int | None, usage: Usage, command: str | None = None
    ) -> None:
        """Record the outcome of a call; `spent` is in 1e-12 USD, None for the reserved amount.

        An earlier command, whose call it was, is named.
        """
        values = (outcome, spent, usage.prompt_tokens, usage.completion_tokens, command or self.command, number)
        await self._write(SETTLE, values)

    def save_hits(self, backend: str, hits: int, amount: int) -> None:
        """Record how many answers this command took from the cache so far, and their original cost."""
        self._commit([(SAVED, (self.command, backend, hits, amount))])

    def accounts(self, by: Literal["backend", "prompt"] = "backend") -> dict[str, Account]:
        """Return the totals by the backend's name, or by that of the prompt, without what the cache answered."""
        accounts: dict[str, Account] = {}
        with self._one_line(), self._lock:
            rows = self._database.execute(TOTALS.format(by=GROUPS[by])).fetchall()
            saved = self._database.execute("SELECT backend, SUM(hits), SUM(amount) FROM saved GROUP BY backend")
            hits = saved.fetchall() if by == "backend" else []
        for backend, outcome, calls, prompt_tokens, completion_tokens, amount in rows:
            account = accounts.setdefault(backend, Account())
            account.calls += calls
            account.prompt_tokens += prompt_tokens
            account.completion_tokens += completion_tokens
            account.spent_usd += (amount or 0) / PICO
            if outcome == "delivered":
                account.delivered += calls
            elif outcome != "unbilled":
                account.unconfirmed += calls
                account.unconfirmed_usd += (amount or 0) / PICO
        for backend, count, amount in hits:
            account = accounts.setdefault(backend, Account())
            account.hits, account.saved_usd = count, amount / PICO
        return accounts

    def delivered(self) -> list[Delivered]:
        """Return every call whose reply came back, oldest first."""
        with self._one_line(), self._lock:
            rows = self._database.execute(DELIVERED).fetchall()
        return [Delivered(*row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._database.close()

    async def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        """Write one row; it is on disk on return. Concurrent writes share one transaction."""
        written = asyncio.get_running_loop().create_future()
        self._pending.append(((statement, values), written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            error: BackendError | None = None
            try:
                await asyncio.to_thread(self._commit, [row for row, _ in batch])
            except BackendError as caught:
                error = caught
            for _, written in batch:
                if written.done() or written.get_loop().is_closed():
                    continue  # the caller was cancelled; the row is written
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)

    def _commit(self, batch: list[Row]) -> None:
        with self._one_line(), self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in batch:
                    self._database.execute(statement, values)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BackendError(
                f"the ledger {self.path} cannot be used ({error}), and without it no call is made: is the disk "
                "full, the folder read-only, or another process stuck?"
            ) from error
