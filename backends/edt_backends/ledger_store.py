"""Databases of a ledger: a SQLite file for one machine, a server for several."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edt_backends.base import BackendError
from edt_backends.sqlite import connect_read_only, writable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Statement = tuple[str, Mapping[str, Any]]
"""SQL with named parameters, such as `:number`, and their values."""
Entry = Sequence[Statement]
"""Statements that belong together: one that changes no row ends them."""

TABLES = (
    """
CREATE TABLE IF NOT EXISTS calls (
    command TEXT NOT NULL, number INTEGER NOT NULL, backend TEXT NOT NULL, prompt TEXT NOT NULL, left REAL NOT NULL,
    most INTEGER, spent INTEGER, outcome TEXT NOT NULL DEFAULT 'open',
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (command, number)) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS saved (
    command TEXT NOT NULL, backend TEXT NOT NULL, hits INTEGER NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (command, backend)) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS budgets (
    name TEXT PRIMARY KEY, reserved INTEGER NOT NULL DEFAULT 0, spent INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID
""",
)
ELSEWHERE = {" WITHOUT ROWID": "", " INTEGER": " BIGINT", " REAL": " DOUBLE PRECISION", " left ": ' "left" '}
"""What other databases say for SQLite's words: their INTEGER and REAL are too small for money and times."""
MAKING = 4_519_736_237
"""Advisory lock of PostgreSQL while tables are made, as two that make one at once fail."""


WAIT_S = "20"
"""Seconds until a server that does not answer is given up."""


class Store(ABC):
    """Database of a ledger. Every method raises BackendError if it cannot be used."""

    @abstractmethod
    def write(self, entries: Sequence[Entry]) -> list[bool]:
        """Run entries in one transaction, on disk on return; return whether each ran to its end."""

    @abstractmethod
    def read(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    @abstractmethod
    def close(self) -> None:
        """Close the database."""


class SQLiteStore(Store):
    """SQLite file, shared by any number of processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with self._one_line():
            if path.exists() and not writable(path):
                self._database = connect_read_only(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # a reservation outlives a loss of power
            for table in TABLES:
                self._database.execute(table)

    def write(self, entries: Sequence[Entry]) -> list[bool]:
        with self._one_line(), self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                done = [all(self._database.execute(*one).rowcount for one in entry) for entry in entries]
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        return done

    def read(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._one_line(), self._lock:
            return self._database.execute(sql, values).fetchall()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BackendError(
                f"the ledger {self._path} cannot be used ({error}), and without it no call is made: is the disk "
                "full, the folder read-only, or another process stuck?"
            ) from error


class ServerStore(Store):
    """Database that SQLAlchemy reaches by a URL, for processes on several machines."""

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise BackendError("a ledger on a server needs SQLAlchemy: pip install 'edt-cli[postgres]'") from None
        self._sql, self._errors = sqlalchemy.text, (sqlalchemy.exc.SQLAlchemyError, OSError)
        self._shown, self._secret = "EDT_LEDGER", ""
        with self._one_line():
            parsed = sqlalchemy.make_url(url)
        self._shown, self._secret = parsed.render_as_string(hide_password=True), str(parsed.password or "")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg").update_query_dict({"connect_timeout": WAIT_S})
        with self._one_line():
            try:
                self._engine: Engine = sqlalchemy.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
            except ModuleNotFoundError as missing:
                raise BackendError(
                    f"the ledger {self._shown} needs {missing.name}: pip install 'edt-cli[postgres]'"
                ) from None
            with self._engine.begin() as connection:
                self._make_tables(connection)

    def _make_tables(self, connection: Connection) -> None:
        if self._engine.dialect.name == "postgresql":
            connection.execute(self._sql("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MAKING})
        for table in TABLES:
            for ours, theirs in ELSEWHERE.items():
                table = table.replace(ours, theirs)
            connection.execute(self._sql(table))

    def write(self, entries: Sequence[Entry]) -> list[bool]:
        with self._one_line(), self._engine.begin() as connection:
            return [
                all(connection.execute(self._sql(sql), values).rowcount for sql, values in one) for one in entries
            ]

    def read(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._one_line(), self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(self._sql(sql), values)]

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            if self._secret:
                said = said.replace(self._secret, "***")
            raise BackendError(
                f"the ledger {self._shown} cannot be used ({said}), and without it no call is made"
            ) from None
