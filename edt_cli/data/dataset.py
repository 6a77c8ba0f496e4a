"""Datasets: flat chronological sequences, a split, and the view of them that training may see.

Items are numbered 1..N and grouped by domain, so that each domain is a range; 0 is padding. The pseudo-items of an
augmentation are numbered from N + 1 and belong to the augmentation, not to the dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from edt_cli.config import MANY_REPEATS, DataSettings, KeepSeen, Split, TrainOn, UserError, did_you_mean, similar
from edt_cli.data.filters import ROWS_AT_ONCE
from edt_cli.data.item_vectors import ItemVectors
from edt_cli.workspace.layout import Artefact, digest

Numbers = NDArray[np.int64]
TEXT_FIELDS = ("title", "brand", "category", "description")
MANY_USERS = 200_000
FILES = ("interactions.parquet", "users.parquet", "items.parquet")


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
        cell = self.users * len(domains) + domains.of(self.items)
        return np.bincount(cell, minlength=len(self) * len(domains)).reshape(len(self), len(domains))


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
    users, parts, times, tie, sequence = columns if known.all() else [column[known] for column in columns]
    counts = np.bincount(users, minlength=len(user_names))
    ordered: list[np.ndarray] = [np.empty(len(users), kind) for kind in (np.int64, np.int64, np.uint8)]
    for begin, rows in _in_order(users, counts, parts, times, tie):
        for column, source in zip(ordered, (sequence, times, parts), strict=True):
            column[begin : begin + len(rows)] = source[rows]
    del columns, users, tie, sequence, parts
    sequence, times, parts = ordered
    offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    train_lengths, valid, test = _split(offsets, times, parts, settings)
    sizes = np.bincount(used["domain"].to_numpy(), minlength=len(domains))
    return Dataset(
        name="",
        key="",
        settings=settings,
        domains=Domains(tuple(domains), np.concatenate([[1], 1 + np.cumsum(sizes)]), settings.descriptions),
        user_ids=user_names.filter(pl.Series(counts > 0)).to_list(),
        sequences=Sequences(offsets, sequence, times),
        train_lengths=train_lengths,
        target_positions={"valid": valid, "test": test},
        catalogue=used.select(
            pl.col("item").alias("id"),
            *(
                pl.col(name) if name in used.columns else pl.lit(None, pl.String).alias(name)
                for name in TEXT_FIELDS
            ),
        ),
    )


def _in_order(
    users: np.ndarray, counts: np.ndarray, parts: np.ndarray, times: np.ndarray, tie: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows ordered by user, part, time and tie, with the number of those before them.

    Users are ordered `ROWS_AT_ONCE` or so interactions at a time.
    """
    if len(users) <= ROWS_AT_ONCE:
        yield 0, _order(users, parts, times, tie)
        return
    cuts = np.searchsorted(np.cumsum(counts), np.arange(ROWS_AT_ONCE, len(users), ROWS_AT_ONCE)) + 1
    begin = 0
    for first, last in pairwise([0, *np.unique(cuts).tolist(), len(counts)]):
        rows = np.flatnonzero((users >= first) & (users < last))
        if len(rows):
            yield begin, rows[_order(users[rows], parts[rows], times[rows], tie[rows])]
            begin += len(rows)


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


def save(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Write the tables of a dataset, and return entries for its manifest."""
    frames = (
        pl.DataFrame(
            {
                # `sequences.users` would stay cached, with eight bytes per element.
                "user": np.repeat(np.arange(len(dataset.sequences), dtype=np.int32), dataset.sequences.lengths),
                "item": dataset.sequences.items.astype(np.int32),
                "time": dataset.times,
            }
        ),
        pl.DataFrame(
            {
                "id": dataset.user_ids,
                "train_length": dataset.train_lengths,
                "valid_position": dataset.target_positions["valid"],
                "test_position": dataset.target_positions["test"],
            }
        ),
        dataset.catalogue,
    )
    for name, frame in zip(FILES, frames, strict=True):
        frame.write_parquet(folder / name)
    return {
        "domains": list(dataset.domains.names),
        "domain_starts": dataset.domains.starts.tolist(),
        "settings": dataset.settings.model_dump(mode="json"),
        "content": {name: _content(frame) for name, frame in zip(FILES, frames, strict=True)},
    }


def data_key(saved: Mapping[str, Any], settings: DataSettings) -> str:
    """Return the key of a dataset from what `save` returned.

    Some settings are left out, since the content shows their effect.
    """
    keyed = settings.model_dump(mode="json", exclude={"repeats", "min_rating"})
    return digest({**saved, "settings": keyed})


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of the tables of a saved dataset, as `save` returned them.

    Raises:
        OSError: If a table cannot be read.
        polars.exceptions.PolarsError: If it is damaged.
    """
    return {name: _content(pl.read_parquet(folder / name, glob=False)) for name in FILES}


def _content(frame: pl.DataFrame) -> str:
    """Return 16 hex digits over the values, independent of the version of the Parquet writer."""
    hashed = hashlib.sha256()
    for column in frame:
        text = column.dtype == pl.String
        plain: Any = json.dumps(column.to_list()).encode() if text else column.to_numpy()
        values = memoryview(plain)
        hashed.update(f"{column.name}:{values.nbytes}:".encode())
        hashed.update(values)
    return hashed.hexdigest()[:16]


def load(artefact: Artefact) -> Dataset:
    """Load a prepared dataset.

    Raises:
        UserError: If it was never prepared, or is damaged.
    """
    if not artefact.complete:
        close = similar(artefact.key, (path.name for path in artefact.path.parent.glob("[!.]*")))
        hint = f"did you mean {' or '.join(close)}? Else " if close else ""
        raise UserError(
            f"there is no dataset {artefact.key!r} in this workspace; {hint}"
            f"make it with: edt data prepare {artefact.key} --raw DIR (or --download)"
        )
    manifest = artefact.manifest()
    try:
        interactions, users, catalogue = (pl.read_parquet(artefact.path / name, glob=False) for name in FILES)
        counts = np.bincount(interactions["user"].to_numpy(), minlength=len(users))
        # Datasets without this setting are older and contain duplicates.
        settings = DataSettings.model_validate({"repeats": "keep", **manifest["settings"]})
        starts = np.array(manifest["domain_starts"])
        return Dataset(
            name=artefact.key,
            key=manifest["data_key"],
            settings=settings,
            domains=Domains(tuple(manifest["domains"]), starts, settings.descriptions),
            user_ids=users["id"].to_list(),
            sequences=Sequences(
                np.concatenate([[0], np.cumsum(counts)]),
                interactions["item"].to_numpy().astype(np.int64),
                interactions["time"].to_numpy(),
            ),
            train_lengths=users["train_length"].to_numpy(),
            target_positions={
                "valid": users["valid_position"].to_numpy(),
                "test": users["test_position"].to_numpy(),
            },
            catalogue=catalogue,
            vectors=ItemVectors.of_manifest(artefact.path, manifest),
            sample_of=manifest.get("sample_of"),
        )
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"dataset {artefact.key!r} is damaged ({type(error).__name__}); "
            f"remove it with: edt data remove {artefact.key}, and prepare it again"
        ) from None
