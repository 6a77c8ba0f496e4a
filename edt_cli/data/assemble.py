"""A dataset from tables of interactions and items: numbers, the order of interactions, and the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from edt_cli.config import DataSettings, UserError
from edt_cli.data.dataset import TEXT_FIELDS, Dataset, Domains, Sequences
from edt_cli.data.filters import ROWS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class NumberedRows:
    """Interactions by numbers, in file order, and the names behind the numbers.

    Args:
        users: Index into `user_names` (u32 [n]).
        parts: 0 train, 1 valid, 2 test (u8 [n]); all 0 unless the split is given.
        times: Unix seconds or steps (i64 [n]).
        ties: Distinct numbers, by which interactions of a user at the same time are ordered (u32 [n]).
        items: Number of the item, from 1 (i32 [n]).
        user_names: Names of all users in order, also of those without an interaction here.
        catalogue: item (its number is that of the row, from 1), domain and the text fields that exist.
    """

    users: np.ndarray
    parts: np.ndarray
    times: np.ndarray
    ties: np.ndarray
    items: np.ndarray
    user_names: pl.Series
    catalogue: pl.DataFrame


def assemble(
    interactions: pl.DataFrame, items: pl.DataFrame, domains: Sequence[str], settings: DataSettings
) -> Dataset:
    """Number users and items, order each user's interactions, and split them.

    Args:
        interactions: user, item (strings or categories) and time (i64), in file order; also `part` (0 train,
            1 valid, 2 test) if `settings.split` is "given".
        items: item (unique), domain (int) and the text fields that exist; other items' interactions are dropped.
        domains: Names of the domains.
        settings: The order of ties and the split.

    Raises:
        UserError: If no interaction is left.
    """
    return ordered(numbered(interactions, items, settings), domains, settings)


def numbered(interactions: pl.DataFrame, items: pl.DataFrame, settings: DataSettings) -> NumberedRows:
    """Number users and items: the first half of `assemble`, after which its tables can be let go.

    Raises:
        UserError: If no interaction is left.
    """
    if interactions.is_empty():
        raise UserError("no usable interaction is left: check the time window and the k-core")
    user_codes, user_names = _coded(interactions["user"])
    item_codes, item_names = _coded(interactions["item"])
    used = (
        item_names.to_frame("item")
        .with_row_index("code")
        .join(items.with_columns(pl.col("item").cast(pl.String)), on="item", how="inner")
        .sort("domain", "item")
    )
    numbers = np.zeros(len(item_names), np.int32)
    numbers[used["code"].to_numpy()] = np.arange(1, len(used) + 1)
    tie = np.arange(len(interactions), dtype=np.uint32)
    if settings.ties == "shuffle":
        tie = np.random.default_rng(settings.seed).permutation(tie)
    parts = interactions["part"].to_numpy() if settings.split == "given" else np.zeros(len(tie), np.uint8)
    columns = [user_codes, parts, interactions["time"].to_numpy(), tie, numbers[item_codes]]
    del item_codes
    known = columns[-1] > 0
    if not known.any():
        raise UserError("no usable interaction is left: none has an item of the catalogue")
    users, parts, times, ties, sequence = columns if known.all() else [column[known] for column in columns]
    return NumberedRows(
        users=users,
        parts=parts,
        times=times,
        ties=ties,
        items=sequence,
        user_names=user_names,
        catalogue=used.drop("code"),
    )


def ordered(rows: NumberedRows, domains: Sequence[str], settings: DataSettings) -> Dataset:
    """Order each user's interactions and split them: the second half of `assemble`."""
    counts = np.bincount(rows.users, minlength=len(rows.user_names))
    columns: list[np.ndarray] = [np.empty(len(rows.users), kind) for kind in (np.int64, np.int64, np.uint8)]
    for begin, chosen in _in_order(rows, counts):
        for column, source in zip(columns, (rows.items, rows.times, rows.parts), strict=True):
            column[begin : begin + len(chosen)] = source[chosen]
    sequence, times, parts = columns
    offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    train_lengths, valid, test = _split(offsets, times, parts, settings)
    sizes = np.bincount(rows.catalogue["domain"].to_numpy(), minlength=len(domains))
    return Dataset(
        name="",
        key="",
        settings=settings,
        domains=Domains(tuple(domains), np.concatenate([[1], 1 + np.cumsum(sizes)]), settings.descriptions),
        user_ids=rows.user_names.filter(pl.Series(counts > 0)).to_list(),
        sequences=Sequences(offsets, sequence, times),
        train_lengths=train_lengths,
        target_positions={"valid": valid, "test": test},
        catalogue=rows.catalogue.select(
            pl.col("item").alias("id"),
            *(
                pl.col(name) if name in rows.catalogue.columns else pl.lit(None, pl.String).alias(name)
                for name in TEXT_FIELDS
            ),
        ),
    )


def _in_order(rows: NumberedRows, counts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield indices of rows ordered by user, part, time and tie, with the number of those before them.

    Users are ordered `ROWS_AT_ONCE` or so interactions at a time.
    """
    users, keys = rows.users, (rows.users, rows.parts, rows.times, rows.ties)
    if len(users) <= ROWS_AT_ONCE:
        yield 0, _order(*keys)
        return
    cuts = np.searchsorted(np.cumsum(counts), np.arange(ROWS_AT_ONCE, len(users), ROWS_AT_ONCE)) + 1
    begin = 0
    for first, last in pairwise([0, *np.unique(cuts).tolist(), len(counts)]):
        chosen = np.flatnonzero((users >= first) & (users < last))
        if len(chosen):
            yield begin, chosen[_order(*(key[chosen] for key in keys))]
            begin += len(chosen)


def _order(users: np.ndarray, parts: np.ndarray, times: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Return the rows [n] ordered by user, part, time and tie.

    To save memory, user, part and time are combined into one number, of which rows in the order of their ties need
    only a stable sort.
    """
    span = int(times.max()) - int(times.min()) + 1
    if span * 3 * int(users.max() + 1) >= 2**63:
        times = np.unique(times, return_inverse=True)[1]
        span = int(times.max()) + 1
    # Compute in place: each copy of tens of millions of rows would need memory.
    key = users.astype(np.int64)
    key *= 3
    key += parts
    key *= span
    key += times
    key -= times.min()
    by_tie = _inverse(tie)
    key = key[by_tie]
    return by_tie[np.argsort(key, kind="stable")]


def _inverse(order: np.ndarray) -> np.ndarray:
    """Invert `order`, which holds distinct numbers: all of 0 .. n - 1, unless rows were dropped."""
    if int(order.max()) >= len(order):
        return np.argsort(order).astype(order.dtype)
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order), dtype=order.dtype)
    return inverse


def _coded(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Return codes (u32 [n]) into the sorted names that occur, and these names."""
    column = column.cast(pl.Categorical)
    unique = column.unique()
    names = unique.cast(pl.String)
    order = names.arg_sort()
    present = unique.to_physical().to_numpy()
    ranks = np.zeros(int(present.max()) + 1, np.uint32)
    ranks[present[order.to_numpy()]] = np.arange(len(order), dtype=np.uint32)
    return ranks[column.to_physical().to_numpy()], names[order]


def _split(
    offsets: np.ndarray, times: np.ndarray, parts: np.ndarray, settings: DataSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the training length, validation position and test position (-1 for none) of each user.

    - leave-one-out: the last interaction is the test target, the one before it the validation target; a user with
      fewer than three interactions is used for training only.
    - global-time: the 80% and 90% quantiles of time are the boundaries, and the targets are the last interactions
      of the two later spans.
    - given: the targets are the last interactions of the validation and the test file.
    """
    lengths = np.diff(offsets)
    if settings.split == "leave-one-out":
        return leave_one_out(lengths)
    if settings.split == "global-time":
        first, second = np.quantile(times, [0.8, 0.9], method="nearest")
        parts = (times >= first).astype(int) + (times >= second)
    users = np.repeat(np.arange(len(lengths)), lengths)
    counts = [np.bincount(users[parts == part], minlength=len(lengths)) for part in range(3)]
    ends = np.cumsum(counts, axis=0)
    valid, test = (np.where(counts[part] > 0, ends[part] - 1, -1) for part in (1, 2))
    return counts[0], valid, test


def leave_one_out(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training length, validation position and test position (-1 for none) of sequences by their lengths."""
    enough = lengths >= 3
    train = np.where(enough, lengths - 2, lengths)
    return train, np.where(enough, lengths - 2, -1), np.where(enough, lengths - 1, -1)
