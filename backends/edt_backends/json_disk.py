"""Serialization of the reply cache as JSON, which refuses to read pickles."""

from __future__ import annotations

import json
import zlib
from typing import Any

import diskcache
from diskcache.core import MODE_RAW

from edt_backends.base import BackendError


class JSONOnlyDisk(diskcache.Disk):  # type: ignore[misc]
    """Disk of text keys and compressed JSON values inside the database.

    diskcache's own JSONDisk still unpickles a row that is marked as pickled (CVE-2025-69872), so anybody who can
    write the file could run code. This class refuses such a row, and any other that it did not write, without
    reading it.
    """

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise self._foreign()
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        return super().store(zlib.compress(json.dumps(value).encode(), 1), False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != MODE_RAW or not isinstance(value, bytes):
            raise self._foreign()
        try:
            return json.loads(zlib.decompress(value))
        except (zlib.error, ValueError):
            raise self._foreign() from None

    def _foreign(self) -> BackendError:
        return BackendError(
            f"the reply cache {self._directory} holds an entry that this program did not write (a pickle could "
            "run code), so it was not read; find out who wrote it, then move the folder away"
        )
