"""Parts of Transformers, one position and one head after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def attention(part, x: Tensor, visible: Callable[[int], Iterable[int]]) -> Tensor:
    """x: [L, D]; position i looks at `visible(i)`."""
    hidden, size = x.shape[1], x.shape[1] // part.heads
    q, k, v = (x @ part.qkv.weight.T + part.qkv.bias).split(hidden, 1)
    rows = []
    for i in range(len(x)):
        heads = []
        for head in range(part.heads):
            of = slice(head * size, (head + 1) * size)
            at = list(visible(i))
            shares = torch.softmax(torch.stack([q[i, of] @ k[j, of] / math.sqrt(size) for j in at]), 0)
            heads.append(sum(share * v[j, of] for share, j in zip(shares, at, strict=True)))
        rows.append(part.out.weight @ torch.cat(heads) + part.out.bias)
    return torch.stack(rows)


def feedforward(part, x: Tensor) -> Tensor:
    """x: [D]."""
    inner = part.inner.weight @ x + part.inner.bias
    return part.norm(x + part.outer.weight @ gelu(inner) + part.outer.bias)


def post_norm_block(block, x: Tensor, visible: Callable[[int], Iterable[int]]) -> Tensor:
    """x: [L, D]."""
    attended = attention(block.attention, x, visible)
    return torch.stack([feedforward(block.feedforward, block.norm(x[i] + attended[i])) for i in range(len(x))])


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2
