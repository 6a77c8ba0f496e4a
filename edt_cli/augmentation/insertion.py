"""Insertion of the kept items into the training prefix (section 3.2.3).

An inserted item was generated from the whole training prefix and may be inserted before part of it. The paper has
this look-ahead within training too; it does not affect evaluation, since nothing held out takes part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.data.dataset import Numbers, Sequences, grouped


def insert(
    prefixes: Sequences, users: np.ndarray, gaps: np.ndarray, scores: np.ndarray, items: np.ndarray
) -> tuple[Sequences, np.ndarray]:
    """Insert items [G] into the training prefixes.

    Gap g of a user is after the first g items of the prefix, so the gap right after an anchor is anchor + 1. Items
    in the same gap are in descending order of score.

    Returns:
        The sequences, and a bool mask over their items that is true for the inserted ones.
    """
    order = np.lexsort((np.arange(len(users)), -scores, gaps, users))
    indices = prefixes.offsets[users[order]] + gaps[order]
    added = np.bincount(users, minlength=len(prefixes))
    augmented = Sequences(
        prefixes.offsets + np.concatenate([[0], np.cumsum(added)]), np.insert(prefixes.items, indices, items[order])
    )
    return augmented, np.insert(np.zeros(len(prefixes.items), bool), indices, True)


def continued(augmentation: Augmentation, prefixes: Sequences, longer: Sequences) -> Augmentation:
    """Return an augmentation with what longer prefixes have after those that were augmented.

    Args:
        augmentation: Augmentation of the prefixes.
        prefixes: The training prefixes.
        longer: Longer prefixes of the same users.
    """
    position = np.arange(len(longer.items)) - longer.offsets[longer.users]
    after = position >= prefixes.lengths[longer.users]
    rows = np.concatenate([augmentation.sequences.users, longer.users[after]])
    items = np.concatenate([augmentation.sequences.items, longer.items[after]])
    sequences = grouped(rows, items, None, len(longer))
    inserted = np.append(augmentation.inserted, np.zeros(int(after.sum()), bool))
    return replace(augmentation, sequences=sequences, inserted=inserted[np.argsort(rows, kind="stable")])


def choose_injected(share: float, count: int, users: Numbers, slots: Numbers, seed: int) -> np.ndarray:
    """Choose at random which kept items are inserted (table 6).

    Args:
        share: Share of the items to insert. A smaller share inserts some of the items of a larger one.
        count: Number of users.
        users: User of each item [G].
        slots: As in `choose_positions` [G].
        seed: Random seed.

    Returns:
        bool [G].
    """
    chosen: np.ndarray = _draws((seed, 1), count, users, slots) < share
    return chosen


def choose_positions(
    choice: Literal["similar", "end", "random"],
    lengths: Numbers,
    users: Numbers,
    anchors: Numbers,
    slots: Numbers,
    seed: int,
) -> Numbers:
    """Choose the gap of each item [G].

    Args:
        choice: `similar` is right after the item's anchor, `end` (`w/o Inserting`) after the training prefix,
            `random` (`Random Inserting`) uniform in 0 .. length.
        lengths: Lengths of the prefixes [U].
        users: User of each item [G].
        anchors: Position of each item's anchor [G].
        slots: A number for each item [G] that no other item of the same user has. A random gap depends on seed,
            user and slot only, so not on other users' items.
        seed: Random seed.
    """
    if choice == "similar":
        return anchors + 1
    if choice == "end":
        return lengths[users]
    positions: Numbers = (_draws(seed, len(lengths), users, slots) * (lengths[users] + 1)).astype(np.int64)
    return positions


def _draws(seed: int | tuple[int, ...], count: int, users: Numbers, slots: Numbers) -> np.ndarray:
    """Return a number in [0, 1) for each item [G] that depends on seed, user (of `count`) and slot only."""
    return np.random.default_rng(seed).random((slots.max(initial=0) + 1, count))[slots, users]
