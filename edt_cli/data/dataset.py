"""Datasets: flat chronological sequences, a split, and the view of them that training may see.

Items are numbered 1..N and grouped by domain, so that each domain is a range; 0 is padding. The pseudo-items of an
augmentation are numbered from N + 1 and belong to the augmentation, not to the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from edt_cli.config import MANY_REPEATS, DataSettings, KeepSeen, Split, TrainOn, UserError, did_you_mean, similar
from edt_cli.data.item_vectors import ItemVectors

Numbers = NDArray[np.int64]
TEXT_FIELDS = ("title", "brand", "category", "description")
MANY_USERS = 200_000


@dataclass(frozen=True)
class Domains:
    """Names of the D domains and the numbers of their items.

    The items of domain d are starts[d] .. starts[d + 1] - 1; `starts` is [D + 1].
    """

    names: tuple[str, ...]
    starts: Numbers
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """What domains sell, in the user's words, by name; may lack any of them."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def items(self) -> int:
        """Number of catalogue items, N."""
        return int(self.starts[-1]) - 1

    @property
    def described(self) -> tuple[str, ...]:
        """Names as prompts introduce them: with the description of a domain that has one."""
        texts = (self.descriptions.get(name) for name in self.names)
        return tuple(f"{name} ({text})" if text else name for name, text in zip(self.names, texts, strict=True))

    def of(self, items: np.ndarray) -> np.ndarray:
        """Return the domain numbers of catalogue items (1..N), in the same shape."""
        return np.searchsorted(self.starts, items, side="right").astype(np.int64) - 1

    def range(self, domain: int) -> range:
        """Return the range of item numbers of a domain."""
        return range(int(self.starts[domain]), int(self.starts[domain + 1]))

    def number(self, name: str) -> int:
        """Return the number of a domain.

        Raises:
            UserError: If there is no domain of this name.
        """
        if name not in self.names:
            raise UserError(f"there is no domain {name!r}; this dataset has {', '.join(self.names)}")
        return self.names.index(name)


@dataclass(frozen=True)
class Sequences:
    """Sequences of items of all users in one array, oldest first.

    User u has items[offsets[u]:offsets[u + 1]].
    """

    offsets: Numbers
    items: Numbers
    times: np.ndarray | None = None
    """int64, unix seconds of each item; None if unknown, as in a history that was typed in."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, user: int) -> np.ndarray:
        """Return the items of one user."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence."""
        return np.diff(self.offsets)

    @cached_property
    def users(self) -> np.ndarray:
        """User of each element of `items`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def prefixes(self, lengths: np.ndarray) -> Sequences:
        """Copy each user's first lengths[u] items; later ones cannot be reached from the result."""
        position = np.arange(len(self.items)) - self.offsets[self.users]
        kept = position < lengths[self.users]
        offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, self.lengths))])
        return Sequences(offsets, self.items[kept], None if self.times is None else self.times[kept])

    def rows(self, rows: np.ndarray) -> Sequences:
        """Return the sequences of `rows`, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sequences(offsets, self.items[index], None if self.times is None else self.times[index])

    def domain_counts(self, domains: Domains) -> np.ndarray:
        """Count the items of each user in each domain: [U, D]."""
        counts = np.empty((len(self), len(domains)), np.int64)
        # Running totals, since `users` would take twice the memory and stay cached.
        running = np.zeros(len(self.items) + 1, np.int64)
        for number in range(len(domains)):
            first, end = domains.starts[number : number + 2]
            np.cumsum((first <= self.items) & (self.items < end), out=running[1:])
            counts[:, number] = np.diff(running[self.offsets])
        return counts


def grouped(rows: np.ndarray, items: np.ndarray, times: np.ndarray | None, count: int) -> Sequences:
    """Group items and their times by row into `count` sequences, in unchanged order within each row."""
    order = np.argsort(rows, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return Sequences(offsets, items[order], None if times is None else times[order])


@dataclass(frozen=True)
class TrainingView:
    """The data that training may see: training prefixes and the texts of the catalogue."""

    dataset: str
    key: str
    domains: Domains
    user_ids: Sequence[str]
    prefixes: Sequences
    catalogue: pl.DataFrame

    @cached_property
    def training_items(self) -> np.ndarray:
        """Items that occur in training, ascending."""
        return np.unique(self.prefixes.items)

    def popularity(self) -> np.ndarray:
        """Count the training interactions of each item: [N + 1], 0 for padding."""
        return np.bincount(self.prefixes.items, minlength=self.domains.items + 1)


@dataclass(frozen=True)
class Targets:
    """Items to predict: for each of n users the one at `positions`, from all items before it."""

    users: Numbers
    positions: Numbers
    items: Numbers
    domains: Numbers


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset of two or more domains; `load` reads one, `assemble` makes one."""

    name: str
    key: str
    settings: DataSettings
    domains: Domains
    user_ids: Sequence[str]
    sequences: Sequences
    train_lengths: Numbers
    target_positions: dict[Split, Numbers]
    catalogue: pl.DataFrame
    """One row per item, row i for item i + 1: id, title, brand, category, description (null where absent)."""
    vectors: ItemVectors | None = None
    """Text vectors that models read in place of an embedder's; None if there are none."""
    sample_of: str | None = None
    """Name of the dataset that this is a small sample of; None if it is none."""

    @cached_property
    def has_text(self) -> np.ndarray:
        """Whether each item has text, or a vector where the dataset has them: bool [N + 1]."""
        if self.vectors is not None:
            return self.vectors.known
        text = self.catalogue.select(pl.any_horizontal(pl.col(TEXT_FIELDS).is_not_null()))
        return np.append(False, text.to_series().to_numpy())

    @property
    def times(self) -> np.ndarray:
        """Times of each element of `sequences.items`: int64, unix seconds."""
        assert self.sequences.times is not None
        return self.sequences.times

    def learned_lengths(self, train_on: TrainOn = "train") -> np.ndarray:
        """Return how many interactions of each user a model is trained on: [U].

        These are the training prefix, with "train+valid" also the validation target, and with "all" everything, for
        a model that is not evaluated.
        """
        if train_on == "train+valid":
            return np.maximum(self.train_lengths, self.target_positions["valid"] + 1)
        return self.sequences.lengths if train_on == "all" else self.train_lengths

    def training_view(self, train_on: TrainOn = "train") -> TrainingView:
        """Return the part of the dataset that a model is trained on."""
        key = {"train": self.key, "train+valid": f"{self.key}-refit", "all": f"{self.key}-final"}[train_on]
        prefixes = self.sequences.prefixes(self.learned_lengths(train_on))
        return TrainingView(
            dataset=self.name,
            key=key,
            domains=self.domains,
            user_ids=self.user_ids,
            prefixes=prefixes,
            catalogue=self.catalogue,
        )

    def targets(self, split: Split) -> Targets:
        """Return the targets that have at least one interaction before them."""
        positions = self.target_positions[split]
        users = np.flatnonzero(positions > 0)
        positions = positions[users]
        items = self.sequences.items[self.sequences.offsets[users] + positions]
        return Targets(users=users, positions=positions, items=items, domains=self.domains.of(items))

    def repeats(self, split: Split) -> np.ndarray:
        """Return which targets their users have seen before: bool [n]."""
        targets, users = self.targets(split), self.sequences.users
        wanted, ends = np.zeros((2, len(self.sequences)), dtype=np.int64)
        wanted[targets.users] = targets.items
        ends[targets.users] = self.sequences.offsets[targets.users] + targets.positions
        before = (self.sequences.items == wanted[users]) & (np.arange(len(users)) < ends[users])
        return np.bincount(users[before], minlength=len(self.sequences))[targets.users] > 0

    @cached_property
    def repeat_share(self) -> float:
        """Share of repeats among the targets of both splits, 0 if there is no target."""
        both = np.concatenate([self.repeats("valid"), self.repeats("test")])
        return float(both.mean()) if len(both) else 0.0

    def keeps_seen(self, keep_seen: KeepSeen = "auto") -> bool:
        """Resolve `keep_seen`: "auto" keeps seen items as candidates if many targets are repeats.

        If the other seen items were excluded, a target that is a repeat would be the only one among the candidates.
        """
        return self.repeat_share > MANY_REPEATS if keep_seen == "auto" else keep_seen

    @cached_property
    def _user_numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.user_ids)}

    def has_user(self, name: str) -> bool:
        """Return whether there is a user with this id."""
        return name in self._user_numbers

    def user(self, name: str) -> int:
        """Return the number of a user.

        Raises:
            UserError: If there is no user with this id; it names those with a similar one.
        """
        if not self.has_user(name):
            # Each id is compared: among millions that takes too long.
            close = similar(name, self.user_ids) if len(self.user_ids) < MANY_USERS else []
            hint = did_you_mean(close) or "edt data stats shows some"
            raise UserError(f"there is no user {name!r} in {self.name}; {hint}")
        return self._user_numbers[name]

    @cached_property
    def _item_numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.catalogue["id"], start=1)}

    def item_number(self, name: str) -> int | None:
        """Return the number of an item (1..N), or None if it is not in the catalogue."""
        return self._item_numbers.get(name)
