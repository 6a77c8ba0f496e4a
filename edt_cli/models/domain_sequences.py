"""Domain sequences, and their states at the positions of the mixed sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.batch import Batch


def domain_sequence(items: Tensor, domain_of: Tensor, domains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Select the items of one domain in each row, in their order (LLM-EDT, eq. 2).

    Args:
        items: Long [B, L], mixed sequences.
        domain_of: Long [1 + N + P], the domain of each item.
        domains: Long [B], the domain to select in each row.

    Returns:
        Items [B, L'], their lengths [B], and for each mixed position the index in the new sequence of the last item
        of the domain at or before it ([B, L], -1 if there is none yet).
    """
    mask = (domain_of[items] == domains[:, None]) & (items > 0)
    order, lengths = packed(mask)
    steps = torch.arange(order.shape[1], device=items.device)
    return torch.where(steps < lengths[:, None], items.gather(1, order), 0), lengths, mask.cumsum(1) - 1


def packed(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of the true elements of each row of `mask` (bool [B, L]).

    Returns:
        Long [B, L'], the positions in order, and long [B], their number in each row; entries beyond it are
        arbitrary.
    """
    counts = mask.sum(1)
    return torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, : max(1, int(counts.max()))], counts


def next_of_domain(items: Tensor, domain_of: Tensor, domains: int) -> Tensor:
    """Return the next item of the same domain for each item (long [B, L]); 0 if there is none."""
    length = items.shape[1]
    steps, ended = torch.arange(length, device=items.device), F.pad(items, (0, 1))
    out = torch.zeros_like(items)
    for domain in range(domains):
        mask = (domain_of[items] == domain) & (items > 0)
        here_or_later = torch.where(mask, steps, length).flip(1).cummin(1).values.flip(1)
        out = torch.where(mask, ended.gather(1, F.pad(here_or_later[:, 1:], (0, 1), value=length)), out)
    return out


def at_positions(states: Tensor, index: Tensor) -> Tensor:
    """Gather states [B, L', D] by `index` (long [B, L]): [B, L, D], zero where the index is -1."""
    at = index.clamp_min(0).unsqueeze(-1).expand(*index.shape, states.shape[-1])
    return states.gather(1, at) * (index >= 0).unsqueeze(-1)


def domain_positions(
    batch: Batch, domain_of: Tensor, domains: int, encode: Callable[[int, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Compute the state of the queried domain at each position of the mixed sequence.

    It is the state after the last item of domain d at or before the position, where d is the domain queried there.

    Args:
        batch: The batch, of mixed sequences.
        domain_of: Long [1 + N + P], the domain of each item.
        domains: Number of domains.
        encode: Maps (domain, items [B, L'], lengths [B]) to states [B, L', D].

    Returns:
        [B, L, D], zero where no such item exists yet, and bool [B, L], whether it exists.
    """
    out: Tensor | None = None
    present = torch.zeros_like(batch.items, dtype=torch.bool)
    for domain in range(domains):
        items, lengths, index = domain_sequence(batch.items, domain_of, torch.full_like(batch.rows, domain))
        wanted = (batch.domains == domain) & (index >= 0)
        states = at_positions(encode(domain, items, lengths), index)
        out = torch.where(wanted.unsqueeze(-1), states, torch.zeros_like(states) if out is None else out)
        present |= wanted
    assert out is not None
    return out, present


def shared_domain_positions(
    batch: Batch, x: Tensor, domain_of: Tensor, domains: int, encode: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Compute `domain_positions` with one encoder for all domains and precomputed item vectors.

    The encoder is called once, with a row for each user and domain that has items.

    Args:
        batch: The batch, of mixed sequences.
        x: [B, L, D], the vectors of its items.
        domain_of: Long [1 + N + P], the domain of each item.
        domains: Number of domains.
        encode: Maps (vectors [R, L', D], lengths [R]) to states [R, L', D].

    Returns:
        The same as `domain_positions`.
    """
    of_domain = torch.arange(domains, device=x.device)[:, None, None]
    mask = (domain_of[batch.items] == of_domain) & (batch.items > 0)
    nonempty = mask.any(2)
    if not nonempty.any():
        return torch.zeros_like(x), torch.zeros_like(batch.items, dtype=torch.bool)
    domain, row = nonempty.nonzero(as_tuple=True)
    order, lengths = packed(mask[domain, row])
    longest = order.shape[1]
    vectors = F.embedding(row[:, None] * x.shape[1] + order, x.flatten(0, 1))
    vectors = vectors * (torch.arange(longest, device=x.device) < lengths[:, None]).unsqueeze(-1)
    states = encode(vectors, lengths).flatten(0, 1)

    queried = batch.domains[None]
    index = (mask.cumsum(2) - 1).gather(0, queried)[0]
    pair = (nonempty.flatten().cumsum(0) - 1).view_as(nonempty)[:, :, None].expand_as(mask).gather(0, queried)[0]
    present = index >= 0
    at = torch.where(present, pair * longest + index, 0)
    return F.embedding(at, states) * present.unsqueeze(-1), present
