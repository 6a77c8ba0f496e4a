"""What is asked at evaluation: the targets of a split, what a model may look at, and what it may not recommend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edt_cli.data.dataset import Dataset, Domains, Sequences, Split, Targets


@dataclass(frozen=True)
class Questions:
    """n targets. `inputs` and `history` have one row a target: every interaction before it, `inputs` with what an
    augmentation inserted into the training prefix, `history` as it happened."""

    domains: Domains
    targets: Targets
    inputs: Sequences
    history: Sequences

    def __len__(self) -> int:
        return len(self.targets.users)

    @cached_property
    def target_columns(self) -> np.ndarray:
        """[n]: the target's place within its domain."""
        return self.targets.items - self.domains.starts[self.targets.domains]

    def seen(self, rows: np.ndarray, domain: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (index into `rows`, column): items of `domain` that the user has had, never the target.

        All `rows` must ask for `domain`.
        """
        place, items = gather(self.history, rows)
        known = self.domains.range(domain)
        own = (items >= known.start) & (items < known.stop) & (items != self.targets.items[rows][place])
        return place[own], items[own] - known.start


def questions(dataset: Dataset, split: Split, augmented: Sequences | None = None) -> Questions:
    """The targets of `split`, from all earlier true interactions; inside the training prefix augmented ones.

    augmented: a row a user, the training prefix with what was inserted. None: as it happened.
    """
    targets = dataset.targets(split)
    history = dataset.sequences.prefixes(_lengths(dataset, targets))
    history = Sequences(*_rows(history, targets.users))
    if augmented is None:
        return Questions(dataset.domains, targets, history, history)
    rows, items = gather(augmented, targets.users)
    later = np.arange(len(history.items)) - history.offsets[history.users]
    after = later >= dataset.train_lengths[targets.users][history.users]
    rows = np.concatenate([rows, history.users[after]])
    items = np.concatenate([items, history.items[after]])
    order = np.argsort(rows, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(targets.users)))])
    return Questions(dataset.domains, targets, Sequences(offsets, items[order]), history)


def only_domain(sequences: Sequences, domains: np.ndarray, domain_of: np.ndarray) -> Sequences:
    """Each row's items of the one domain domains[row]: what a single-domain model sees.

    domain_of: [1 + N + P].
    """
    own = domain_of[sequences.items] == domains[sequences.users]
    counts = np.bincount(sequences.users[own], minlength=len(sequences))
    return Sequences(np.concatenate([[0], np.cumsum(counts)]), sequences.items[own])


def gather(sequences: Sequences, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The items of `rows` end to end, and for each its index into `rows`."""
    lengths = sequences.lengths[rows]
    place = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(len(place)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return place, sequences.items[sequences.offsets[rows][place] + within]


def _rows(sequences: Sequences, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place, items = gather(sequences, rows)
    return np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(rows)))]), items


def _lengths(dataset: Dataset, targets: Targets) -> np.ndarray:
    lengths = np.zeros(len(dataset.sequences), dtype=np.int64)
    lengths[targets.users] = targets.positions
    return lengths
