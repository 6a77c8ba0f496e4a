"""litellm's list of models and prices, read without importing litellm, which takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FILE = "model_prices_and_context_window_backup.json"


@cache
def price_map() -> Mapping[str, Mapping[str, Any]]:
    """Return the entries by model; empty without litellm, or if this version keeps them elsewhere."""
    found = find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    try:
        document = json.loads(Path(found.origin).with_name(FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: entry for name, entry in document.items() if isinstance(entry, dict)}


def listed_price(model: str) -> tuple[float, float] | None:
    """Return US dollars per prompt token and per completion token of PROVIDER/MODEL; None if it is not listed."""
    known = price_map()
    entry = known.get(model) or known.get(model.partition("/")[2]) or {}
    if not isinstance(into := entry.get("input_cost_per_token"), int | float):
        return None
    return float(into), float(entry.get("output_cost_per_token") or 0.0)


def listed_providers() -> set[str]:
    """Return the names of the providers of all models."""
    return {str(entry["litellm_provider"]) for entry in price_map().values() if "litellm_provider" in entry}
