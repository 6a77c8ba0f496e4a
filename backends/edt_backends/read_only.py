"""The reply cache's database in a folder that cannot be written."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import diskcache

from edt_backends.json_disk import JSONOnlyDisk
from edt_backends.sqlite import connect_read_only

NO_ENTRIES = "CREATE TABLE Cache (key BLOB, raw INTEGER, expire_time REAL, tag BLOB, mode, filename, value)"


class ReadOnlyCache(diskcache.Cache):  # type: ignore[misc]
    """A diskcache in a folder that cannot be written, empty if there is none; to write is an error of SQLite."""

    def __init__(self, directory: Path) -> None:
        """Open the cache, without the settings and tables that diskcache would write first."""
        self._directory, self._timeout, self._txn_id = str(directory), 0, None
        self._local = threading.local()
        self._disk = JSONOnlyDisk(str(directory))
        self.statistics, self.eviction_policy = 0, "none"

    @property
    def _con(self) -> sqlite3.Connection:
        if not hasattr(self._local, "con"):
            database = Path(self._directory) / diskcache.core.DBNAME
            if database.exists():
                self._local.con = connect_read_only(database)
            else:
                self._local.con = sqlite3.connect(":memory:", isolation_level=None)
                self._local.con.execute(NO_ENTRIES)
        connection: sqlite3.Connection = self._local.con
        return connection

    def volume(self) -> int:
        """Return the size of the database in bytes."""
        pages, size = (self._sql(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)
