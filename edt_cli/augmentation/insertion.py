"""Where kept items go in the training prefix (section 3.2.3).

An inserted item was made from the whole training prefix and may stand before part of it. That look-ahead within
training is the paper's own; evaluation is untouched by it, since nothing held out takes part.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edt_cli.data.dataset import Numbers, Sequences


def insert(
    prefixes: Sequences, users: np.ndarray, gaps: np.ndarray, scores: np.ndarray, items: np.ndarray
) -> tuple[Sequences, np.ndarray]:
    """Sequences with items [G] inserted, and a mask bool over their items that is true for the inserted ones.

    Gap g of a user is after the first g items of the prefix, so right after its anchor an item has the gap
    anchor + 1. Several in one gap stand in descending score.
    """
    order = np.lexsort((np.arange(len(users)), -scores, gaps, users))
    places = prefixes.offsets[users[order]] + gaps[order]
    added = np.bincount(users, minlength=len(prefixes))
    augmented = Sequences(
        prefixes.offsets + np.concatenate([[0], np.cumsum(added)]), np.insert(prefixes.items, places, items[order])
    )
    return augmented, np.insert(np.zeros(len(prefixes.items), bool), places, True)


def choose_positions(
    choice: Literal["similar", "end", "random"],
    lengths: Numbers,
    users: Numbers,
    anchors: Numbers,
    slots: Numbers,
    seed: int,
) -> Numbers:
    """The gap of each item [G]: `similar` is right after its anchor, `end` (`w/o Inserting`) after the training
    prefix, `random` (`Random Inserting`) uniform in 0 .. length.

    slots [G]: a number that no other item of the same user has. A random gap depends on seed, user and slot, so on
    nobody else's items. lengths [U]: of the prefixes.
    """
    if choice == "similar":
        return anchors + 1
    if choice == "end":
        return lengths[users]
    draws = np.random.default_rng(seed).random((slots.max(initial=0) + 1, len(lengths)))
    return (draws[slots, users] * (lengths[users] + 1)).astype(np.int64)
