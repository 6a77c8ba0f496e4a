"""The reply cache's database: JSON alone, and nothing in it that another program put there.

diskcache trusts its database: it unpickles a row that is marked as pickled (CVE-2025-69872), removes the file that
a row names, and makes attributes of the settings in it. Whoever can write the file could run code or remove files.
No release of diskcache is fixed, so such a database is refused here before it is used.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME, DEFAULT_SETTINGS, METADATA, MODE_RAW

from edt_backends.base import BackendError
from edt_backends.entry import EntryForm
from edt_backends.sqlite import connect_read_only, writable

ENTRY_BYTES = 64 * 2**20
"""Largest entry that is read; a few kilobytes that unpack to gigabytes are not."""
OBJECTS = {
    *(("table", name) for name in ("Settings", "Cache")),
    *(("index", f"Cache_{name}") for name in ("key_raw", "expire_time", "store_time", "tag_rowid")),
    *(("trigger", f"Settings_{name}") for name in ("count_insert", "count_delete")),
    *(("trigger", f"Settings_size_{name}") for name in ("insert", "update", "delete")),
    ("index", "sqlite_autoindex_Settings_1"),
}
"""All that diskcache makes in a database."""
SETTING_NAMES = {*DEFAULT_SETTINGS, *METADATA, "sqlite_secure_delete"}
SETTING_WORDS = {"none", "least-recently-stored", "wal"}


class JSONOnlyDisk(diskcache.Disk):  # type: ignore[misc]
    """Disk of text keys and compressed JSON values inside the database; any other row is refused unread."""

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise foreign(self._directory, "an entry")
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        return super().store(zlib.compress(json.dumps(value).encode(), 1), False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_RAW and isinstance(value, bytes):
            with contextlib.suppress(zlib.error, ValueError, RecursionError):
                entry = json.loads(_unpacked(value))
                EntryForm.model_validate(entry)
                return entry
        raise foreign(self._directory, "an entry")

    def remove(self, file_path: str) -> None:
        """Do nothing: no entry has a file, and the path that a row names may be anybody's."""


def check_database(directory: Path) -> None:
    """Check that a database holds nothing but what diskcache makes and sets.

    Raises:
        BackendError: If it holds anything else.
        sqlite3.Error: If it cannot be read.
    """
    file = directory / DBNAME
    if not file.is_file() or not file.stat().st_size:
        return
    opened = sqlite3.connect(file, timeout=60) if writable(file) else connect_read_only(file)
    with contextlib.closing(opened) as connection:
        objects = set(connection.execute("SELECT type, name FROM sqlite_master"))
        for kind, name in objects - OBJECTS:
            raise foreign(directory, f"the {kind} {name!r}")
        if ("table", "Settings") not in objects:
            return  # another process is making it
        for name, value in connection.execute("SELECT key, value FROM Settings"):
            if name not in SETTING_NAMES or not (isinstance(value, int) or value in SETTING_WORDS):
                raise foreign(directory, f"the setting {name!r}")


def foreign(directory: Path | str, what: str) -> BackendError:
    """Return the error for something in the cache that another program put there."""
    return BackendError(
        f"the reply cache {directory} holds {what} that this program did not write (it could run code or remove "
        "files), so it was not read; find out who wrote it, then move the folder away"
    )


def _unpacked(value: bytes) -> bytes:
    decoder = zlib.decompressobj()
    text = decoder.decompress(value, ENTRY_BYTES)
    if not decoder.eof:
        raise ValueError("cut off, or larger than any entry")
    return text
