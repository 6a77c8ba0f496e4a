"""Leak check: compares what the LLM stages used with the whole dataset, interaction by interaction."""

from __future__ import annotations

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import UserError
from edt_cli.data.dataset import Dataset


def check_sources(dataset: Dataset, sources: pl.DataFrame, what: str, lengths: np.ndarray | None = None) -> int:
    """Check that interactions (user, position, item) are in the training prefixes; return their number.

    Args:
        dataset: The whole dataset.
        sources: Interactions that the stage used.
        what: Name of the stage, for the error message.
        lengths: Lengths of the prefixes [U], if they are not the dataset's (training on everything).

    Raises:
        UserError: With the first interaction that is held out, or whose item is not the one at that position.
    """
    lengths = dataset.train_lengths if lengths is None else lengths
    users, positions, items = (sources[name].to_numpy() for name in ("user", "position", "item"))
    known = (users >= 0) & (users < len(lengths))
    users_or_first = np.where(known, users, 0)
    inside = known & (positions >= 0) & (positions < lengths[users_or_first])
    indices = np.where(inside, dataset.sequences.offsets[users_or_first] + positions, 0)
    wrong = np.flatnonzero(~inside | (dataset.sequences.items[indices] != items))
    if len(wrong):
        row = int(wrong[0])
        name = dataset.user_ids[users[row]] if known[row] else f"number {users[row]}"
        problem = f"has another item than the recorded {items[row]}" if inside[row] else "is not in training"
        raise UserError(
            f"leak check of the {what}: position {positions[row]} of user {name} {problem}; "
            f"remove this artefact and make it again"
        )
    return len(users)


def check_sequences(dataset: Dataset, augmentation: Augmentation, lengths: np.ndarray | None = None) -> int:
    """Check that the augmented sequences without inserted items are the training prefixes.

    Returns:
        Number of interactions that were checked.

    Raises:
        UserError: With the first user whose sequence differs.
    """
    lengths = dataset.train_lengths if lengths is None else lengths
    prefixes = dataset.sequences.prefixes(lengths)
    original = ~augmentation.inserted
    users, items = augmentation.sequences.users[original], augmentation.sequences.items[original]
    if len(augmentation.sequences) != len(prefixes):
        raise UserError(
            "leak check: the augmentation has other users than the dataset; remove it and make it again"
        )
    counts = np.bincount(users, minlength=len(prefixes))
    different = counts != prefixes.lengths
    if not different.any():
        different[users[items != prefixes.items]] = True
    if different.any():
        name = dataset.user_ids[int(np.flatnonzero(different)[0])]
        raise UserError(
            f"leak check: the augmented sequence of user {name}, without what was inserted, is not the training "
            "prefix; remove this augmentation and make it again"
        )
    return len(items)
