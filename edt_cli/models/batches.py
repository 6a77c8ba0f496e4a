"""The order of an epoch: each row once, with rows of similar length in a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edt_cli.config import UserError
from edt_cli.distributed.group import process, processes

POOL = 8
"""Batches that are sorted by length together."""


def epoch_batches(lengths: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the row indices of one epoch in batches.

    Rows are shuffled, sorted by length within pools of eight batches, and the batches are shuffled again; thus
    there is little padding. The order is drawn on the CPU, so that it is the same on every device.

    Where several processes train together, each gets every n-th row of every batch. They draw the same order, and
    the rows of a batch are sorted, so that their shares are equally long.

    Args:
        lengths: Long [U], the length of each row; empty rows are left out.
        size: Rows in a batch.
        generator: A CPU generator.

    Raises:
        UserError: If there are fewer rows than processes.
    """
    rows = torch.nonzero(lengths.cpu() > 0).squeeze(1)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    batches: list[Tensor] = []
    for pool in rows.split(size * POOL):
        ordered = pool[torch.argsort(lengths.cpu()[pool], stable=True)]
        batches.extend(ordered.split(size))
    if batches and len(batches[-1]) < processes():
        batches[-2:] = torch.cat(batches[-2:]).tensor_split(len(batches[-2:]))
        if len(batches[-1]) < processes():
            raise UserError(f"{len(rows)} histories in batches of {size} are too few for {processes()} processes")
    for number in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[number][process() :: processes()].to(lengths.device)
