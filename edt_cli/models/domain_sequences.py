"""A user's items of one domain, in their order, and what is said of them at the positions of the mixed sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edt_cli.models.batch import Batch


def domain_sequence(items: Tensor, domain_of: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """LLM-EDT, eq. 2: the items of one domain in their order, for each row.

    items: long [B, L]; asked: long [B]. Returns items [B, L'], lengths [B], and for each mixed position the place
    in the new sequence of the last such item at or before it ([B, L], -1: none yet).
    """
    own = (domain_of[items] == asked[:, None]) & (items > 0)
    lengths = own.sum(1)
    first = torch.argsort((~own).to(torch.int8), dim=1, stable=True)[:, : max(1, int(lengths.max()))]
    chosen = items.gather(1, first)
    steps = torch.arange(chosen.shape[1], device=items.device)
    return torch.where(steps < lengths[:, None], chosen, 0), lengths, own.cumsum(1) - 1


def at_positions(states: Tensor, place: Tensor) -> Tensor:
    """States [B, L', D] of a domain's items at mixed positions, by `place` [B, L]: [B, L, D], 0 where it is -1."""
    at = place.clamp_min(0).unsqueeze(-1).expand(*place.shape, states.shape[-1])
    return states.gather(1, at) * (place >= 0).unsqueeze(-1)


def domain_positions(
    batch: Batch, domain_of: Tensor, domains: int, encode: Callable[[int, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The state after the last item of domain d at or before each position, d the domain asked for there.

    encode: (domain, items [B, L'], lengths [B]) -> [B, L', D]. Returns [B, L, D], zero where no such item exists
    yet, and bool [B, L], False there.
    """
    out: Tensor | None = None
    present = torch.zeros_like(batch.items, dtype=torch.bool)
    for domain in range(domains):
        items, lengths, place = domain_sequence(batch.items, domain_of, torch.full_like(batch.rows, domain))
        wanted = (batch.domains == domain) & (place >= 0)
        states = at_positions(encode(domain, items, lengths), place)
        out = torch.where(wanted.unsqueeze(-1), states, torch.zeros_like(states) if out is None else out)
        present |= wanted
    assert out is not None
    return out, present
