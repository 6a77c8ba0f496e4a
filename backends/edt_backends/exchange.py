"""Export and import of cached replies as JSON lines."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edt_backends.base import BackendError
from edt_backends.store import Entry, ReplyCache, digest

BATCH = 500
KEY = re.compile(r"[0-9a-f]{64}")
SHARED = (
    "backend",
    "model",
    "time",
    "seconds",
    "asked",
    "reply",
    "finish_reason",
    "max_tokens",
    "usage",
    "price",
    "vector",
)
"""Fields of an entry that are exported; the users' ids are not."""
_CHAT = {"model": str, "asked": dict, "reply": str, "finish_reason": str}


@dataclass
class Taken:
    """Counts of an import: new entries, and known ones, which stay as they are."""

    new: int = 0
    known: int = 0


def export_lines(cache: ReplyCache, model: str | None = None) -> Iterator[str]:
    """Yield one line per reply, optionally of one backend, without users' ids and rejected replies."""
    for key, entry in cache.entries():
        if not entry.get("rejected") and model in (None, entry["backend"]):
            shared = {name: entry[name] for name in SHARED if name in entry}
            yield json.dumps({"key": key, "entry": shared}, ensure_ascii=True)


def import_lines(cache: ReplyCache, lines: Iterable[str]) -> Taken:
    """Add entries that the cache does not have yet; existing ones are not changed.

    A reply's key must be the digest of its question, so that a line cannot answer another question.

    Raises:
        BackendError: With the number of the first invalid line; the lines before it are imported.
    """
    counts = Taken()
    batch: dict[str, Entry] = {}

    def keep() -> None:
        cache.put(batch)
        batch.clear()

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key, entry = _checked(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            keep()
            why = str(error) if isinstance(error, ValueError) else "it is not an entry"
            raise BackendError(
                f"line {number} is not a reply of `edt cache export` ({why}); stopped there"
            ) from None
        if key in batch or key in cache:
            counts.known += 1
            continue
        batch[key] = entry | {"imported": True}
        counts.new += 1
        if len(batch) == BATCH:
            keep()
    keep()
    return counts


def _checked(document: dict[str, Any]) -> tuple[str, Entry]:
    """Return key and entry of one line, rebuilt from its known fields.

    Raises:
        ValueError: If a value is wrong.
        KeyError: If a field is missing.
        TypeError: If a value has the wrong type.
    """
    key, given = document["key"], document["entry"]
    entry = {name: given[name] for name in SHARED if name in given}
    if not KEY.fullmatch(key) or not isinstance(entry["backend"], str):
        raise ValueError("invalid key")
    usage = entry["usage"]
    entry["usage"] = {
        "prompt_tokens": _count(usage["prompt_tokens"]),
        "completion_tokens": _count(usage["completion_tokens"]),
        "cost_usd": None if usage["cost_usd"] is None else _amount(usage["cost_usd"]),
        **({"cached_tokens": _count(usage["cached_tokens"])} if "cached_tokens" in usage else {}),
    }
    entry["time"] = _amount(entry["time"])
    if "vector" in entry:
        vector = np.frombuffer(base64.b64decode(entry["vector"], validate=True), "<f4")
        if abs(float(np.linalg.norm(vector)) - 1.0) > 1e-3:
            raise ValueError("not a unit vector")
        return key, entry
    if not all(isinstance(entry[name], kind) for name, kind in _CHAT.items()):
        raise ValueError("invalid reply")
    if digest(entry["asked"]) != key:
        raise ValueError("the key belongs to another question")
    if "max_tokens" in entry:
        entry["max_tokens"] = _count(entry["max_tokens"])
    entry["seconds"] = _amount(entry.get("seconds", 0.0))
    if entry.get("price") is not None:
        entry["price"] = [_amount(part) for part in entry["price"]]
    return key, {**entry, "users": []}


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise ValueError("invalid number of tokens")
    return value


def _amount(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError("invalid amount")
    return float(value)
