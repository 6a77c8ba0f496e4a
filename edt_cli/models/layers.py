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


class Dropout(nn.Module):
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


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        ctx.keep = bits[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
        ctx.scale = LEVELS / (LEVELS - dropped)
        return x * ctx.keep.to(x.dtype).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.keep.to(gradient.dtype).mul_(ctx.scale), None


class Linear(nn.Linear):
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
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDNN(torch.autograd.Function):
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
