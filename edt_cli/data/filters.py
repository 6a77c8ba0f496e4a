"""Filters of raw interactions: those of the released code, plain k-core, repeats and overlap.

Frames have the columns user and item (categories or numbers), time and domain (its number), in file order; all
functions keep this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

# Passes of the released code: a pass keeps items and users with more interactions than PASS_*; the passes end when
# all have at least STOP_*.
PASS_ITEM, PASS_USER = 3, 5
STOP_ITEM, STOP_USER = 3, 5

ROWS_AT_ONCE = 2**24
"""Rows that are compared or ordered at a time, so that the memory for it does not grow with the data."""
ODD_NUMBERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # factors of a multiplicative hash


def one_domain_per_item(frame: pl.DataFrame, domains: int) -> tuple[pl.DataFrame, int, int]:
    """Assign each item to the domain in which it has most interactions, the first of equals.

    An interaction of such an item that the file of another domain repeats (same user and time) is kept once.

    Returns:
        The frame, the number of items that had several domains, and the number of interactions dropped.
    """
    if frame.is_empty():
        return frame, 0, 0
    item, domain = codes(frame["item"]), frame["domain"].to_numpy()
    size = int(item.max()) + 1
    counts = np.stack([np.bincount(item[domain == number], minlength=size) for number in range(domains)])
    several = (counts > 0).sum(0) > 1
    if not several.any():
        return frame, 0, 0
    home = counts.argmax(0).astype(np.uint8)[item]
    marked = frame.with_columns(row=np.arange(len(frame)), home=home)
    shared = marked.filter(pl.Series(several[item]))
    strangers = shared.filter(pl.col("domain") != pl.col("home"))
    twice = strangers.join(
        shared.filter(pl.col("domain") == pl.col("home")), on=["user", "item", "time"], how="semi"
    )
    kept = np.ones(len(frame), bool)
    kept[twice["row"].to_numpy()] = False
    frame = frame.with_columns(domain=home).filter(pl.Series(kept))
    return frame, int(several.sum()), len(twice)


def core(frame: pl.DataFrame, k: Literal["paper"] | int) -> tuple[pl.DataFrame, int]:
    """Keep the k-core of items and users, or what the passes of the released code keep (`paper`).

    Returns:
        The frame, and the number of passes.
    """
    more_than = (PASS_ITEM, PASS_USER) if k == "paper" else (k - 1, k - 1)
    at_least = (STOP_ITEM, STOP_USER) if k == "paper" else (k, k)
    passes = 0
    while not frame.is_empty():
        rows = [codes(frame[column]) for column in ("item", "user")]
        counts = [np.bincount(column) for column in rows]
        if all((count[count > 0] >= least).all() for count, least in zip(counts, at_least, strict=True)):
            break
        kept = [(count > least)[column] for count, least, column in zip(counts, more_than, rows, strict=True)]
        frame = frame.filter(pl.Series(kept[0] & kept[1]))
        passes += 1
    return frame, passes


def repeated_rows(frame: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Find interactions that are equal to an earlier one in all `columns`: bool [n].

    Interactions are ordered by part, if there are parts, then by time, then as in the file.
    """
    again = np.zeros(len(frame), bool)
    alike = np.flatnonzero(_maybe_alike(frame, columns))
    if len(alike):
        by = [column for column in ("part", "time") if column in frame.columns]
        rows = frame[alike].with_columns(row=alike).sort(by, maintain_order=True)
        again[alike] = True
        again[rows.unique(columns, keep="first")["row"].to_numpy()] = False
    return again


def _maybe_alike(frame: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Find interactions whose `columns` are probably equal to those of another: bool [n].

    They are compared by a 64-bit hash, `ROWS_AT_ONCE` or so at a time: equal rows are of one user.
    """
    alike = np.zeros(len(frame), bool)
    users, parts = codes(frame[columns[0]]), 1 + len(frame) // ROWS_AT_ONCE
    for part in range(parts):
        rows: np.ndarray | slice = slice(None) if parts == 1 else np.flatnonzero(users % parts == part)
        mixed = np.zeros(len(users[rows]), np.uint64)
        for column, odd in zip(columns, ODD_NUMBERS, strict=False):
            mixed += codes(frame[column])[rows].astype(np.uint64) * np.uint64(odd)
        ordered = np.sort(mixed)
        shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        if len(shared):
            alike[rows] = shared[np.searchsorted(shared, mixed).clip(max=len(shared) - 1)] == mixed
    return alike


def limit_overlap(frame: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """Limit the share of overlap users (the open-world setting).

    `share` of all users stay in several domains, and the others keep one of their domains. The overlap users are
    drawn from the users in several domains; if these are fewer than the share, all stay. The domain that another
    user keeps is drawn uniformly from the user's domains. Both draws depend on `seed`.
    """
    pairs = frame.select("user", "domain").unique()
    pairs = pairs.with_columns(pl.col("user").cast(pl.String).alias("name")).sort("name", "domain")
    draw = np.random.default_rng(seed)
    pairs = pairs.with_columns(pl.Series("draw", draw.random(len(pairs))))
    several = pairs.filter(pl.len().over("user") > 1)
    users = several.unique("user", keep="first", maintain_order=True).select("user")
    wanted = round(share * pairs["user"].n_unique())
    if len(users) <= wanted:
        return frame
    stay = draw.choice(len(users), size=wanted, replace=False)
    others = several.join(users[np.sort(stay)], on="user", how="anti")
    dropped = others.filter(pl.col("draw") < pl.col("draw").max().over("user"))
    return frame.join(dropped, on=["user", "domain"], how="anti", maintain_order="left")


def codes(column: pl.Series) -> np.ndarray:
    """Return the numbers behind categories; numbers are returned unchanged."""
    return column.to_physical().to_numpy()
