"""The memory of the preset `best` as tables, and its part of a score computed from them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edt_cli.models.memory import SHARPNESS, Memory

Tables = Mapping[str, NDArray[Any]]


def memory_tables(memory: Memory) -> dict[str, NDArray[Any]]:
    """Return what `memory_scores` needs, by name.

    For each domain D and each item number h, `pairs.D.columns` and `pairs.D.weights` [1 + N + P, K] hold the
    neighbours of h in D, as places in the domain and with their weights; so do `similar.0.D...` (titles) and
    `similar.1.D...` (texts). Where there are fewer, the place is the number of the domain's items.
    """
    tables = {"weight": memory.weight, "decay": memory.decay, "counts": memory.counts}
    for domain, (pairs, similar) in enumerate(zip(memory.cooccurring, memory.similar, strict=True)):
        kinds = {"pairs": pairs} | {f"similar.{number}": neighbours for number, neighbours in enumerate(similar)}
        for kind, neighbours in kinds.items():
            tables[f"{kind}.{domain}.columns"] = neighbours.columns.int()
            tables[f"{kind}.{domain}.weights"] = neighbours.weights
    if memory.seasons is not None:
        tables["until"] = memory.seasons.until
    return {name: np.ascontiguousarray(table.detach().cpu().numpy()) for name, table in tables.items()}


def memory_facts(memory: Memory) -> dict[str, Any]:
    """Return the numbers beside the tables, for a manifest."""
    seasons = memory.seasons
    facts = {"window": memory.window, "sharpness": SHARPNESS, "domains": memory.starts}
    return facts if seasons is None else {**facts, "first": seasons.first, "seconds": seasons.length}


def memory_scores(
    tables: Tables, facts: Mapping[str, Any], history: NDArray[np.int64], domain: int, newest: int | None = None
) -> NDArray[np.float32]:
    """Return the memory's part of the score of each item of a domain, [N_D].

    Args:
        tables: From `memory_tables`.
        facts: From `memory_facts`.
        history: Numbers of the user's items, oldest first.
        domain: Number of the domain.
        newest: Time of the newest item in unix seconds; None if it is not known.
    """
    window = history[::-1][: facts["window"]]
    start, stop = facts["domains"][domain : domain + 2]
    decay = tables["decay"][: len(window)]

    def spread(kind: str, factor: NDArray[np.float32], how: np.ufunc) -> NDArray[np.float32]:
        out = np.zeros(stop - start + 1, np.float32)
        columns, weights = (tables[f"{kind}.{domain}.{part}"][window] for part in ("columns", "weights"))
        how.at(out, columns.ravel(), (weights * factor[:, None]).ravel())
        return out[:-1]

    counts = [tables["counts"][start:stop]]
    if "until" in tables:
        last = len(tables["until"]) - 2
        period = last if newest is None else min(max(0, (newest - facts["first"]) // facts["seconds"]), last)
        before, until = tables["until"][period : period + 2, start:stop]
        counts += [until - before, until]
    similar = [name for name in tables if name.startswith("similar.") and name.endswith(f".{domain}.columns")]
    terms = [
        np.log1p(facts["sharpness"] * spread("pairs", decay, np.add)),
        np.log1p(counts[0]),
        *(spread(f"similar.{number}", np.ones_like(decay), np.maximum) for number in range(len(similar))),
        *(np.log1p(count) for count in counts[1:]),
    ]
    score: NDArray[np.float32] = tables["weight"][domain] @ np.stack(terms)
    return score
