"""Reply caches that somebody changed: no code runs, no file is touched, and it ends in one line or a miss."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache as once
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from diskcache.core import MODE_BINARY, MODE_PICKLE, MODE_TEXT
from test_cache import QUESTION, Evil, Lengths, Oracle

from edt_backends.base import BackendError, ChatReply
from edt_backends.cache import CachedChat, CachedEmbeddings
from edt_backends.exchange import export_lines
from edt_backends.json_disk import ENTRY_BYTES
from edt_backends.store import ReplyCache

QUESTION = replace(QUESTION, user="A1")
NOTES = "../victim/notes.txt"

Attack = Callable[[sqlite3.Connection, Path], None]


def code(folder: Path) -> bytes:
    evil = Evil()
    evil.path = str(folder.parent / "executed")
    return pickle.dumps(evil)


def change(connection: sqlite3.Connection, **columns: Any) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE Cache SET {names}", tuple(columns.values()))


def value(connection: sqlite3.Connection, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Replace each entry by what `edit` makes of it: a text of JSON, or a document."""
    for row, packed in connection.execute("SELECT rowid, value FROM Cache").fetchall():
        made = edit(json.loads(zlib.decompress(packed)))
        text = made if isinstance(made, str) else json.dumps(made)
        connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (zlib.compress(text.encode()), row))


def setting(name: str, content: Any) -> Attack:
    return lambda connection, folder: connection.execute(
        "INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, content)
    )


def statement(sql: str) -> Attack:
    return lambda connection, folder: connection.execute(sql)


def entry(**fields: Any) -> Attack:
    return lambda connection, folder: value(connection, lambda given: given | fields)


def other(document: Any) -> Attack:
    return lambda connection, folder: value(connection, lambda given: document)


def pickled_file(connection: sqlite3.Connection, folder: Path, name: str) -> None:
    (folder / name).write_bytes(code(folder))
    change(connection, mode=MODE_PICKLE, value=None, filename=name)


ATTACKS: dict[str, Attack] = {
    # rows
    "a pickled value": lambda db, folder: change(db, mode=MODE_PICKLE, value=code(folder)),
    "a pickle marked as raw": lambda db, folder: change(db, value=code(folder)),
    "a pickled key": lambda db, folder: db.execute(
        "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, 1)", (code(folder),)
    ),
    "a pickle in a file": lambda db, folder: pickled_file(db, folder, "made.val"),
    "a pickle outside": lambda db, folder: pickled_file(db, folder, "../made.val"),
    "a path upwards, as text": lambda db, folder: change(db, mode=MODE_TEXT, value=None, filename=NOTES),
    "an absolute path, as bytes": lambda db, folder: change(
        db, mode=MODE_BINARY, value=None, filename=str(folder.parent / "victim" / "notes.txt")
    ),
    "a file to remove beside a whole entry": lambda db, folder: change(db, filename=NOTES),
    "an unknown mode": lambda db, folder: change(db, mode=99),
    "no value": lambda db, folder: change(db, value=None),
    "a number for a key": statement("INSERT INTO Cache (key, raw, mode, value) VALUES (7, 1, 1, 1)"),
    "expired": lambda db, folder: change(db, expire_time=1.0),
    # values
    "a value that unpacks without end": lambda db, folder: change(db, value=bomb()),
    "brackets without end": other("[" * 200_000),
    "a list": other([]),
    "not a number": entry(time=float("nan")),
    "an endless cost": entry(usage={"cost_usd": float("inf")}),
    "more tokens than there are numbers": entry(usage={"prompt_tokens": 10**400}),
    "another field of usage": entry(usage={"__class__": 1}),
    "a reply that is no text": entry(reply={"text": "x"}),
    "users that are no list": entry(users="A1"),
    "a question that is none": entry(asked={"prompt": "test@1"}),
    "a vector that is none": entry(vector="AAA"),
    "a vector of another length": lambda db, folder: db.execute(
        "UPDATE Cache SET value = ? WHERE rowid = (SELECT max(rowid) FROM Cache)",
        (zlib.compress(json.dumps({"backend": "b", "time": 0, "usage": {}, "vector": "AACAPw=="}).encode()),),
    ),
    "nothing but the least": other({"backend": "b", "time": 0, "usage": {}}),
    # settings, which diskcache makes attributes and pragmas of
    "another folder": setting("_directory", "../victim"),
    "a method that is a text": setting("get", "gone"),
    "an argument of the disk": setting("disk_compress_level", 1),
    "a class of the disk": setting("disk", "os.system"),
    "an eviction policy": setting("eviction_policy", "'; DROP TABLE Cache; --"),
    "a pragma": setting("sqlite_temp_store_directory", "'../victim'"),
    "statements for a pragma": setting("sqlite_cache_size", "1; ATTACH '../victim/notes.txt' AS v"),
    "a pickle for a setting": lambda db, folder: setting("size_limit", code(folder))(db, folder),
    # the schema
    "a trigger": statement("CREATE TRIGGER t AFTER UPDATE ON Cache BEGIN DELETE FROM Cache; END"),
    "a view": statement("CREATE VIEW v AS SELECT load_extension('../victim/x.so')"),
    "a view in place of the entries": lambda db, folder: (
        db.execute("ALTER TABLE Cache RENAME TO Old"),
        db.execute("CREATE VIEW Cache AS WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i FROM n) SELECT * FROM n"),
    ),
    "no settings": statement("DROP TABLE Settings"),
    "other columns": lambda db, folder: (
        db.execute("DROP TABLE Cache"),
        db.execute("CREATE TABLE Cache (key, raw, mode)"),
    ),
    # the file
    "half a file": lambda db, folder: cut(db, folder / "cache.db"),
    "rubbish in the log": lambda db, folder: rubbish(db, folder / "cache.db-wal"),
}


@once
def bomb() -> bytes:
    return zlib.compress(b'"' + bytes(2 * ENTRY_BYTES), 1)


def cut(connection: sqlite3.Connection, file: Path) -> None:
    connection.close()
    file.write_bytes(file.read_bytes()[:-6000])


def rubbish(connection: sqlite3.Connection, file: Path) -> None:
    connection.close()
    file.write_bytes(b"rubbish " * 2000)


def ask(cache: ReplyCache) -> ChatReply:
    return asyncio.run(CachedChat(Oracle(), cache).complete(QUESTION))


def embed(cache: ReplyCache) -> np.ndarray:
    return asyncio.run(CachedEmbeddings(Lengths(), cache).embed(["tea", "green tea"])).vectors


READS: list[Callable[[ReplyCache], Any]] = [
    ask,
    embed,
    lambda cache: list(cache.entries()),
    lambda cache: json.dumps(vars(cache.stats()), default=vars, allow_nan=False),
    lambda cache: cache.observed("some/oracle"),
    lambda cache: list(export_lines(cache)),
]
WRITES: list[Callable[[ReplyCache], Any]] = [
    lambda cache: CachedChat(Oracle(), cache).reject(QUESTION),
    lambda cache: cache.put({key(cache): {"backend": "b", "time": 0, "usage": {}}}),
    lambda cache: cache.forget("A1"),
    lambda cache: cache.clear(),
]


def key(cache: ReplyCache) -> str:
    return CachedChat(Oracle(), cache).key(QUESTION)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the cache that must stay as it is."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"notes.txt": "mine"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a cache with a reply and two vectors."""
    folder = tmp_path_factory.mktemp("whole")
    cache = ReplyCache(folder)
    ask(cache)
    embed(cache)
    cache._cache._sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "cache.db").read_bytes()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tampered_cache_does_nothing(tmp_path, monkeypatch, victim, whole, attack):
    monkeypatch.chdir(tmp_path)
    ends = []
    for number, write in enumerate(WRITES):
        folder = tmp_path / "cache"
        folder.mkdir()
        (folder / "cache.db").write_bytes(whole)
        with contextlib.closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as connection:
            ATTACKS[attack](connection, folder)
        for use in [*READS, write] if number == 0 else [write]:
            try:
                with contextlib.closing(ReplyCache(folder)) as cache:
                    use(cache)
            except BackendError as error:
                assert len(str(error).splitlines()) == 1 and str(error).startswith("the reply cache")
                ends.append(number)
        assert not (tmp_path / "executed").exists()
        assert {path.name for path in tmp_path.iterdir()} <= {"cache", "victim", "made.val"}
        folder.rename(tmp_path.parent / f"{tmp_path.name}-{number}")
    harmless = {"expired", "a file to remove beside a whole entry", "no settings", "rubbish in the log"}
    assert bool(ends) == (attack not in harmless)


def test_a_cache_that_nobody_touched_is_read(tmp_path, whole):
    (tmp_path / "cache.db").write_bytes(whole)
    for use in (*READS, *WRITES):
        use(ReplyCache(tmp_path))


def test_the_attacks_work_on_diskcache_alone(tmp_path, whole):
    """Else they prove nothing."""
    folder = tmp_path / "cache"
    folder.mkdir()
    notes = tmp_path / "victim" / "notes.txt"
    notes.parent.mkdir()
    for attack, done in (
        ("a pickled value", (tmp_path / "executed").exists),
        ("a pickle in a file", (tmp_path / "executed").exists),
        ("a pickle outside", (tmp_path / "executed").exists),
        ("a file to remove beside a whole entry", lambda: not notes.exists()),
    ):
        (tmp_path / "executed").unlink(missing_ok=True)
        notes.write_text("mine")
        (folder / "cache.db").write_bytes(whole)
        with contextlib.closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as connection:
            ATTACKS[attack](connection, folder)
        with diskcache.Cache(str(folder)) as plain:
            first = next(iter(plain))
            plain.get(first)
            plain.delete(first)
        assert done(), attack
