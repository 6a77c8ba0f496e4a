"""Gradients that are averaged over the processes, and events that only the leader reports."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edt_cli.distributed.group import group_of, number_of_leader, processes
from edt_cli.distributed.sharded import exchange_of, rows_of
from edt_cli.workspace.events import REQUESTS, Events, Request

Loss = Callable[[Any], dict[str, Tensor]]
"""Maps a batch to the terms of a loss by name."""


def replicated(model: nn.Module, loss: Loss) -> Loss:
    """Return a loss whose gradient is the average over the processes; `loss` itself in one process.

    The weights of the leader are copied to all processes, but for sharded tables, whose gradients are collected
    after the backward pass: `Exchange.collect`.
    """
    if processes() == 1:
        return loss
    replica = _Replica(model, loss)
    # DistributedDataParallel has no public name for this; torch's own FSDP uses it, too.
    replica._ddp_params_and_buffers_to_ignore = [  # type: ignore[assignment]
        name for name, parameter in replica.named_parameters() if rows_of(parameter) is not None
    ]
    with warnings.catch_warnings():
        # The name of `broadcast_buffers` is another one in new versions of torch.
        warnings.simplefilter("ignore", FutureWarning)
        # What is unused in one batch (a domain without targets) may be used in another process's share of it.
        return DistributedDataParallel(
            replica,
            process_group=group_of(next(model.parameters()).device),
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


class _Replica(nn.Module):
    """The loss of a model as a module, as DistributedDataParallel wants it."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        # DistributedDataParallel warns if it is to look for unused parameters, and there is none.
        self.unused = nn.Parameter(torch.zeros((), device=next(model.parameters()).device))

    def forward(self, batch: Any) -> dict[str, Tensor]:
        exchange = exchange_of(self.model.parameters())
        if exchange is not None:
            exchange.begin()
        terms = self.loss(batch)
        if exchange is not None:
            exchange.finish()
        if any(term.requires_grad for term in terms.values()):
            return terms
        # A share without targets: this process still takes part in the average.
        anchor = next(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        return {name: term + 0.0 * anchor.sum() for name, term in terms.items()}


class SharedEvents(Events):
    """Events of a training in several processes: the leader reports, and all obey the request that it reads.

    A process that follows has no folder and no listeners.
    """

    def requested(self) -> Request:
        return REQUESTS[number_of_leader(REQUESTS.index(super().requested()))]
