"""Queries of an evaluation: targets, the histories before them, and the items excluded from the ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edt_cli.config import Split
from edt_cli.data.dataset import Dataset, Domains, Sequences, Targets, grouped


@dataclass(frozen=True)
class EvalQueries:
    """n targets, each with the interactions before it, one row per target."""

    domains: Domains
    targets: Targets
    inputs: Sequences
    """Input of the model: the history, with the items that an augmentation inserted into the training prefix."""
    history: Sequences
    """All interactions before the target, as they happened."""
    keep_seen: bool = False
    """Whether items that the user has seen stay candidates."""

    def __len__(self) -> int:
        return len(self.targets.users)

    @cached_property
    def target_columns(self) -> np.ndarray:
        """Column [n] of each target within its domain."""
        return self.targets.items - self.domains.starts[self.targets.domains]

    def excluded(self, rows: np.ndarray, domain: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the items that are excluded from the ranking because the user has seen them.

        The target is never excluded, and no item is with `keep_seen`.

        Args:
            rows: Indices of queries whose targets all are of `domain`.
            domain: Number of a domain.

        Returns:
            Pairs (index into `rows`, column within the domain).
        """
        if self.keep_seen:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        history = self.history.rows(rows)
        index, items = history.users, history.items
        span = self.domains.range(domain)
        mask = (items >= span.start) & (items < span.stop) & (items != self.targets.items[rows][index])
        return index[mask], items[mask] - span.start


def eval_queries(
    dataset: Dataset,
    split: Split,
    augmented: Sequences,
    learned_lengths: np.ndarray | None = None,
    *,
    keep_seen: bool = False,
) -> EvalQueries:
    """Make a query of each target of `split`, with all interactions before it as input.

    Args:
        dataset: The dataset.
        split: The split whose targets are queried.
        augmented: The training prefix of each user, with the inserted items if there are any; it replaces that
            part of the inputs.
        learned_lengths: [U], lengths of those prefixes before insertion; by default the dataset's.
        keep_seen: Whether items that a user has seen stay candidates.
    """
    targets = dataset.targets(split)
    lengths = np.zeros(len(dataset.sequences), dtype=np.int64)
    lengths[targets.users] = targets.positions
    history = dataset.sequences.prefixes(lengths).rows(targets.users)
    learned = dataset.train_lengths if learned_lengths is None else learned_lengths
    inputs = _continued(augmented.rows(targets.users), history, learned[targets.users])
    return EvalQueries(
        domains=dataset.domains, targets=targets, inputs=inputs, history=history, keep_seen=keep_seen
    )


def complete_histories(
    dataset: Dataset, users: np.ndarray, augmented: Sequences, train_lengths: np.ndarray
) -> tuple[Sequences, Sequences]:
    """Return inputs and histories of `users` with nothing held out, to predict what comes next."""
    history = dataset.sequences.rows(users)
    return _continued(augmented.rows(users), history, train_lengths[users]), history


def _continued(augmented: Sequences, history: Sequences, train_lengths: np.ndarray) -> Sequences:
    """Join the augmented prefix of each row with the interactions after the prefix."""
    position = np.arange(len(history.items)) - history.offsets[history.users]
    after = position >= train_lengths[history.users]
    rows = np.concatenate([augmented.users, history.users[after]])
    items = np.concatenate([augmented.items, history.items[after]])
    times = None
    if augmented.times is not None and history.times is not None:
        times = np.concatenate([augmented.times, history.times[after]])
    return grouped(rows, items, times, len(history))
