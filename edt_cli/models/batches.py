"""The order of an epoch: every user once, users of like length together, so that padding is small."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

POOL = 8


def epoch_batches(lengths: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers, `size` at a time. Rows are shuffled, sorted by length within pools of eight batches, and the
    batches shuffled again. lengths: long [U]; rows without items are left out. Drawn on the CPU: the same order
    on every device."""
    rows = torch.nonzero(lengths.cpu() > 0).squeeze(1)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    batches: list[Tensor] = []
    for pool in rows.split(size * POOL):
        ordered = pool[torch.argsort(lengths.cpu()[pool], stable=True)]
        batches.extend(ordered.split(size))
    for number in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[number].to(lengths.device)
