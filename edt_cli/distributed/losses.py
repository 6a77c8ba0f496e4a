"""What a loss over the whole batch needs of the other processes; in one process all of it is the identity.

DistributedDataParallel averages gradients over processes. A loss is therefore scaled so that the average over the
processes is the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from edt_cli.distributed.group import group_of, process, processes


def over_all(total: Tensor, count: int) -> Tensor:
    """Return total / count, both summed over the processes; 0 if the count is 0.

    Args:
        total: A sum of losses in this process, with its gradient.
        count: How many losses it sums.
    """
    if processes() == 1:
        return total / max(1, count)
    counts = torch.tensor([count])
    dist.all_reduce(counts, group=group_of(counts.device))
    return total * (processes() / max(1, int(counts)))


def summed(x: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes, without a gradient."""
    if processes() == 1:
        return x
    out = x.detach().clone()
    dist.all_reduce(out, group=group_of(x.device))
    return out


def gathered(x: Tensor) -> Tensor:
    """Return the rows of all processes, in their order, with the gradient of a loss that each of them computes.

    Each process then has the same loss of the same rows, and gets the gradient of its own rows from it.

    Args:
        x: [n, ...]; n may differ between processes.
    """
    if processes() == 1:
        return x
    # bfloat16 is exact in float32, and not every backend exchanges it.
    return _Gathered.apply(x.float() if x.dtype == torch.bfloat16 else x).to(x.dtype)


class _Gathered(Function):
    apply: ClassVar[Callable[..., Tensor]]

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count = torch.tensor([len(x)])
        counts = [torch.empty_like(count) for _ in range(processes())]
        dist.all_gather(counts, count, group=group_of(count.device))
        lengths = torch.cat(counts).tolist()
        padded = x.new_zeros(max(lengths), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded, group=group_of(x.device))
        first = sum(lengths[: process()])
        ctx.rows = slice(first, first + len(x))
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The average over the processes divides it again.
        return gradient[ctx.rows] * processes()


def averaged(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of each scalar over the processes, which all pass the same names."""
    if processes() == 1 or not values:
        return values
    means = summed(torch.stack(list(values.values()))) / processes()
    return dict(zip(values, means.unbind(), strict=True))
