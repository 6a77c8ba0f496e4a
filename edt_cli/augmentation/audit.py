"""The leak check: what the LLM stages used, held against the whole dataset, interaction by interaction."""

from __future__ import annotations

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import UserError
from edt_cli.data.dataset import Dataset


def check_sources(dataset: Dataset, sources: pl.DataFrame, what: str, lengths: np.ndarray | None = None) -> int:
    """How many interactions (user, position, item) were checked, all of them inside the training prefixes.

    lengths [U]: of the prefixes, where they are not the dataset's (training on everything). Errors: UserError
    that names the first interaction which is held out, or is not the one at that position.
    """
    lengths = dataset.train_lengths if lengths is None else lengths
    users, positions, items = (sources[name].to_numpy() for name in ("user", "position", "item"))
    known = (users >= 0) & (users < len(lengths))
    users_or_first = np.where(known, users, 0)
    inside = known & (positions >= 0) & (positions < lengths[users_or_first])
    places = np.where(inside, dataset.sequences.offsets[users_or_first] + positions, 0)
    wrong = np.flatnonzero(~inside | (dataset.sequences.items[places] != items))
    if len(wrong):
        row = int(wrong[0])
        name = dataset.user_ids[users[row]] if known[row] else f"number {users[row]}"
        problem = (
            f"which has item {items[row]} by its record, is another item" if inside[row] else "is not in training"
        )
        raise UserError(
            f"leak check of the {what}: position {positions[row]} of user {name} {problem}; "
            f"remove this artefact and make it again"
        )
    return len(users)


def check_sequences(dataset: Dataset, augmentation: Augmentation, lengths: np.ndarray | None = None) -> int:
    """How many interactions the augmented sequences hold, all those of the training prefixes and no other.

    Errors: UserError that names the first user whose sequence without inserted items is not the prefix.
    """
    lengths = dataset.train_lengths if lengths is None else lengths
    prefixes = dataset.sequences.prefixes(lengths)
    own = ~augmentation.inserted
    users, items = augmentation.sequences.users[own], augmentation.sequences.items[own]
    if len(augmentation.sequences) != len(prefixes):
        raise UserError("leak check: the augmentation is of other users than the dataset; make it again")
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
