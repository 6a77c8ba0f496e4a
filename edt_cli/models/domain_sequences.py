"""A user's items of one domain, in their order, and what is said of them at the positions of the mixed sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.batch import Batch


def domain_sequence(items: Tensor, domain_of: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """LLM-EDT, eq. 2: the items of one domain in their order, for each row.

    items: long [B, L]; asked: long [B]. Returns items [B, L'], lengths [B], and for each mixed position the place
    in the new sequence of the last such item at or before it ([B, L], -1: none yet).
    """
    own = (domain_of[items] == asked[:, None]) & (items > 0)
    order, lengths = packed(own)
    steps = torch.arange(order.shape[1], device=items.device)
    return torch.where(steps < lengths[:, None], items.gather(1, order), 0), lengths, own.cumsum(1) - 1


def packed(places: Tensor) -> tuple[Tensor, Tensor]:
    """Where the true elements of each row of `places` (bool [B, L]) are, in their order: long [B, L'], and how many
    they are, [B]; what comes after them is of no use."""
    counts = places.sum(1)
    return torch.argsort((~places).to(torch.int8), dim=1, stable=True)[:, : max(1, int(counts.max()))], counts


def next_of_domain(items: Tensor, domain_of: Tensor, domains: int) -> Tensor:
    """long [B, L]: for each item of `items` the next one of its own domain, 0 where there is none."""
    length = items.shape[1]
    steps, ended = torch.arange(length, device=items.device), F.pad(items, (0, 1))
    out = torch.zeros_like(items)
    for domain in range(domains):
        own = (domain_of[items] == domain) & (items > 0)
        here_or_later = torch.where(own, steps, length).flip(1).cummin(1).values.flip(1)
        out = torch.where(own, ended.gather(1, F.pad(here_or_later[:, 1:], (0, 1), value=length)), out)
    return out


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


def shared_domain_positions(
    batch: Batch, x: Tensor, domain_of: Tensor, domains: int, encode: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """`domain_positions` where one encoder serves all domains and the items' vectors `x` [B, L, D] are at hand: it
    is called once, with a row for each user and domain that has items.

    encode: (vectors [R, L', D], lengths [R]) -> [R, L', D]. Returns what `domain_positions` does.
    """
    of_domain = torch.arange(domains, device=x.device)[:, None, None]
    own = (domain_of[batch.items] == of_domain) & (batch.items > 0)
    some = own.any(2)
    if not some.any():
        return torch.zeros_like(x), torch.zeros_like(batch.items, dtype=torch.bool)
    domain, row = some.nonzero(as_tuple=True)
    order, lengths = packed(own[domain, row])
    longest = order.shape[1]
    vectors = F.embedding(row[:, None] * x.shape[1] + order, x.flatten(0, 1))
    vectors = vectors * (torch.arange(longest, device=x.device) < lengths[:, None]).unsqueeze(-1)
    states = encode(vectors, lengths).flatten(0, 1)

    asked = batch.domains[None]
    place = (own.cumsum(2) - 1).gather(0, asked)[0]
    pair = (some.flatten().cumsum(0) - 1).view_as(some)[:, :, None].expand_as(own).gather(0, asked)[0]
    present = place >= 0
    at = torch.where(present, pair * longest + place, 0)
    return F.embedding(at, states) * present.unsqueeze(-1), present
