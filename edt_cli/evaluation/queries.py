"""What is asked at evaluation: the targets of a split, what a model may look at, and what it may not recommend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edt_cli.data.dataset import Dataset, Domains, Sequences, Split, Targets, grouped


@dataclass(frozen=True)
class EvalQueries:
    """n targets. `inputs` and `history` have one row a target: every interaction before it, `inputs` with what an
    augmentation inserted into the training prefix, `history` as it happened. `keep_seen`: what the user has had
    stays a candidate."""

    domains: Domains
    targets: Targets
    inputs: Sequences
    history: Sequences
    keep_seen: bool = False

    def __len__(self) -> int:
        return len(self.targets.users)

    @cached_property
    def target_columns(self) -> np.ndarray:
        """[n]: the target's place within its domain."""
        return self.targets.items - self.domains.starts[self.targets.domains]

    def excluded(self, rows: np.ndarray, domain: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (index into `rows`, column): items of `domain` that are no candidates, as the user has had them;
        never the target, and none with `keep_seen`.

        All `rows` must ask for `domain`.
        """
        if self.keep_seen:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        history = self.history.rows(rows)
        place, items = history.users, history.items
        known = self.domains.range(domain)
        own = (items >= known.start) & (items < known.stop) & (items != self.targets.items[rows][place])
        return place[own], items[own] - known.start


def eval_queries(
    dataset: Dataset,
    split: Split,
    augmented: Sequences,
    learned_lengths: np.ndarray | None = None,
    *,
    keep_seen: bool = False,
) -> EvalQueries:
    """The targets of `split`, from all earlier true interactions; inside the training prefix augmented ones.

    augmented: a row a user, the training prefix with what was inserted (or as it happened). learned_lengths: [U],
    how long that prefix is where it is not the dataset's.
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
    """Inputs and history of `users` with nothing held back: what comes next is asked, not tested."""
    history = dataset.sequences.rows(users)
    return _continued(augmented.rows(users), history, train_lengths[users]), history


def _continued(augmented: Sequences, history: Sequences, train_lengths: np.ndarray) -> Sequences:
    """The augmented prefix of each row, then what happened after the prefix."""
    position = np.arange(len(history.items)) - history.offsets[history.users]
    after = position >= train_lengths[history.users]
    rows = np.concatenate([augmented.users, history.users[after]])
    items = np.concatenate([augmented.items, history.items[after]])
    times = None
    if augmented.times is not None and history.times is not None:
        times = np.concatenate([augmented.times, history.times[after]])
    return grouped(rows, items, times, len(history))
