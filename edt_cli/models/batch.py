"""What a model sees: users' items side by side, and the table of items that they are numbers of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.data.dataset import Domains, Sequences, grouped


@dataclass(frozen=True)
class ItemTable:
    """Every item that may stand in a sequence: 0 is padding, 1..N the catalogue, above N the pseudo-items.

    domain_of: long [1 + N + P] (0 for padding). counts: long [1 + N + P], how often training holds each. text:
    float32 [1 + N + P, d_L], unit rows, zero where an item has no text, or None where nothing embeds text.
    """

    domains: Domains
    domain_of: Tensor
    counts: Tensor
    text: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """bool [1 + N + P]: items that training holds."""
        return self.counts > 0

    @property
    def catalogue(self) -> int:
        return self.domains.items

    def to(self, device: torch.device) -> ItemTable:
        text = None if self.text is None else self.text.to(device)
        return ItemTable(
            domains=self.domains, domain_of=self.domain_of.to(device), counts=self.counts.to(device), text=text
        )


def item_table(
    domains: Domains, sequences: Sequences, domain_of: np.ndarray | None = None, vectors: np.ndarray | None = None
) -> ItemTable:
    """The table for training on `sequences`. domain_of: [1 + N + P], needed where there are pseudo-items; vectors:
    float32 [1 + N + P, d_L]."""
    if domain_of is None:
        domain_of = domains.of(np.arange(domains.items + 1))
    counts = np.bincount(sequences.items, minlength=len(domain_of))
    text = None if vectors is None else torch.from_numpy(vectors).float()
    return ItemTable(
        domains=domains,
        domain_of=torch.from_numpy(domain_of).clamp_min(0),
        counts=torch.from_numpy(counts),
        text=text,
    )


def domain_rows(sequences: Sequences, table: ItemTable) -> Sequences:
    """A row for each user and domain, with that domain's items only: what single-domain systems train on."""
    domains = len(table.domains)
    row = sequences.users * domains + table.domain_of.cpu().numpy()[sequences.items]
    return grouped(row, sequences.items, sequences.times, len(sequences) * domains)


def only_domain(sequences: Sequences, domains: np.ndarray, domain_of: np.ndarray) -> Sequences:
    """Each row's items of the one domain domains[row]: what a single-domain model sees.

    domain_of: [1 + N + P].
    """
    own = domain_of[sequences.items] == domains[sequences.users]
    times = None if sequences.times is None else sequences.times[own]
    return grouped(sequences.users[own], sequences.items[own], times, len(sequences))


@dataclass(frozen=True)
class Batch:
    """rows: long [B], which sequences these are. items: long [B, L], oldest first, 0 after the end.

    lengths: long [B]. targets: long [B, L], the next item at each position, 0 where there is none.
    domains: long [B, L], the domain in which the next item is asked for. inserted: bool [B, L], items that were put
    there and are no targets; None where there are none. times: long [B, L], unix seconds, 0 after the end;
    None where they are not known.
    """

    rows: Tensor
    items: Tensor
    lengths: Tensor
    targets: Tensor
    domains: Tensor
    inserted: Tensor | None = None
    times: Tensor | None = None


class DeviceSequences:
    """Flat sequences on the device; batches are gathered there, padded to their own longest."""

    def __init__(
        self, sequences: Sequences, table: ItemTable, max_length: int, inserted: np.ndarray | None = None
    ) -> None:
        """`inserted`: bool, the items of `sequences` that are no targets; None where all are."""
        device = table.domain_of.device
        lengths = np.minimum(sequences.lengths, max_length)
        self.items = torch.from_numpy(np.append(sequences.items, 0)).to(device)
        times = sequences.times
        self.times = None if times is None else torch.from_numpy(np.append(times, 0)).to(device)
        self.inserted = None if inserted is None else torch.from_numpy(np.append(inserted, False)).to(device)
        self.starts = torch.from_numpy(sequences.offsets[1:] - lengths).to(device)
        self.lengths = torch.from_numpy(lengths).to(device)
        self.domain_of = table.domain_of

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Tensor, asked: Tensor | None = None) -> Batch:
        """The newest `max_length` items of each row.

        asked: long [B]; if given, the domain asked for at each row's last position (and everywhere else: only
        the last position of such a batch is of use), else the domain of each next item.
        """
        lengths = self.lengths[rows]
        steps = torch.arange(max(1, int(lengths.max())), device=rows.device)
        at = (self.starts[rows, None] + steps).clamp_max(len(self.items) - 1)
        real = steps < lengths[:, None]
        items = torch.where(real, self.items[at], 0)
        times = None if self.times is None else torch.where(real, self.times[at], 0)
        inserted = None if self.inserted is None else self.inserted[at] & real
        learned = items if inserted is None else items.masked_fill(inserted, 0)
        targets = torch.cat([learned[:, 1:], items.new_zeros(len(rows), 1)], 1)
        domains = self.domain_of[targets] if asked is None else asked[:, None].expand_as(items)
        return Batch(
            rows=rows,
            items=items,
            lengths=lengths,
            targets=targets,
            domains=domains,
            inserted=inserted,
            times=times,
        )

    def targets(self) -> Tensor:
        """long [rows]: how many targets each row has."""
        counts = (self.lengths - 1).clamp_min(0)
        if self.inserted is None:
            return counts
        before = F.pad(self.inserted.cumsum(0), (1, 0))
        first = self.starts + (self.lengths > 0)
        return counts - (before[self.starts + self.lengths] - before[first])

    def by_length(self, size: int) -> Iterator[Tensor]:
        """All rows, the longest first, in chunks of `size`: hardly any padding, and the first is the largest."""
        yield from torch.argsort(self.lengths, descending=True, stable=True).split(size)


def last_state(states: Tensor, lengths: Tensor) -> Tensor:
    """[B, L, D] -> [B, D]: the state after the last item; zero for an empty sequence."""
    last = states[torch.arange(len(states), device=states.device), (lengths - 1).clamp_min(0)]
    return last * (lengths > 0).unsqueeze(1)


def mean_state(states: Tensor, places: Tensor) -> Tensor:
    """[B, L, D] -> [B, D]: the mean over `places` (bool [B, L]), of which each row has one at least."""
    weights = places.to(states.dtype)
    return (weights.unsqueeze(1) @ states).squeeze(1) / weights.sum(1, keepdim=True)
