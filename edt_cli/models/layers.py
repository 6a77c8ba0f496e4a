"""Dropout and linear maps, computed on a CPU the way that is fast there; elsewhere they are torch's own."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from edt_cli.models.typed import Function, Layer

LEVELS = 1 << 16
"""Random values are of 16 bits: a dropout rate is exact to 1 / 65,536."""


TWICE: ContextVar[bool] = ContextVar("twice", default=False)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """What is computed here may be differentiated, and its gradient again: no fused kernel that cannot."""
    token = TWICE.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        TWICE.reset(token)


class Dropout(Layer):
    """Inverted dropout. torch draws one slow Bernoulli value an element on a CPU; here one draw serves four."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        return _Dropped.apply(x, round(self.rate * LEVELS))


class _Dropped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        ctx.keep = _kept(x.shape, dropped)
        ctx.scale = LEVELS / (LEVELS - dropped)
        out: Tensor = x * ctx.keep.to(x.dtype).mul_(ctx.scale)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.keep.to(gradient.dtype).mul_(ctx.scale), None


def _kept(shape: torch.Size, dropped: int) -> Tensor:
    """bool `shape`: what is kept where `dropped` of LEVELS values are not."""
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return bits[:count].view(shape) >= dropped - LEVELS // 2


def dropped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """dropout(softmax(q k^T / sqrt(d))) v on a CPU: [B, H, L, d] each. mask: bool, broadcastable to [B, H, L, L],
    True where a query may look.

    The matrices of L x L are made for a few rows at a time and again on the way back, so that neither the cache nor
    memory has to hold them; what is kept of them is which values were dropped.
    """
    return _DroppedAttention.apply(q, k, v, mask, round(rate * LEVELS))


CELLS = 1 << 20
"""Of the L x L matrices that are at hand at one time."""


class _DroppedAttention(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropped: int) -> Tensor:
        ctx.keep = _kept(q.shape[:3] + q.shape[2:3], dropped)
        ctx.scale = LEVELS / (LEVELS - dropped)
        ctx.save_for_backward(q, k, v, mask)
        out = torch.empty_like(v)
        for rows in _few(q):
            weights = _weights(q[rows], k[rows], _of(mask, rows))
            out[rows] = weights.mul_(ctx.keep[rows]).mul_(ctx.scale) @ v[rows]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5
        for rows in _few(q):
            weights = _weights(q[rows], k[rows], _of(mask, rows))
            kept = ctx.keep[rows].to(q.dtype).mul_(ctx.scale)
            of_v[rows] = (weights * kept).transpose(-2, -1) @ gradient[rows]
            of_weights = (gradient[rows] @ v[rows].transpose(-2, -1)).mul_(kept)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_q[rows] = (of_scores @ k[rows]).mul_(scale)
            of_k[rows] = of_scores.transpose(-2, -1) @ (q[rows] * scale)
        return of_q, of_k, of_v, None, None


def _few(q: Tensor) -> list[slice]:
    step = max(1, CELLS // max(1, q.shape[1] * q.shape[2] ** 2))
    return [slice(at, at + step) for at in range(0, len(q), step)]


def _of(mask: Tensor | None, rows: slice) -> Tensor | None:
    return mask[rows] if mask is not None and mask.dim() == 4 and len(mask) > 1 else mask


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1)


class LoRA(Layer):
    """A low-rank map (Hu et al., ICLR '22): x down^T up^T. `down` starts at zero, so at first it adds nothing."""

    def __init__(self, hidden: int, rank: int, std: float = 0.02) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.zeros(rank, hidden))
        self.up = nn.Parameter(torch.randn(hidden, rank) * std)

    def forward(self, x: Tensor) -> Tensor:
        return linear(linear(x, self.down), self.up)


class SwiGLU(Layer):
    """(silu(x W_gate) * x W_value) W_out, without biases (Shazeer, 2020)."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_and_value = Linear(hidden, 2 * inner, bias=False)
        self.out = Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gate_and_value(x).chunk(2, -1)
        return self.out(F.silu(gate) * value)


class Linear(Layer, nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] -> x weight^T + bias [..., out].

    torch's x86 wheels take MKL for float32 products, which uses half of the vector width of an AMD processor;
    oneDNN, by the operator that torch.compile puts in their place, runs them up to four times as fast.
    """
    if _ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
        return _OneDNN.apply(x, weight, bias)
    return F.linear(x, weight, bias)


_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # Columns cut out of a larger matrix would take hundreds of times as long.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")
    return product


class _OneDNN(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        # By `linear`, not by the operator itself, which has no gradient: this one may be differentiated too.
        of_x = linear(gradient, weight.T.contiguous()) if ctx.needs_input_grad[0] else None
        # This product has its long side inside, where MKL is no slower.
        of_weight = rows.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None
