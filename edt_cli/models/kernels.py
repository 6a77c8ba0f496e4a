"""Replacements for torch operators that are faster or need less memory on a CPU.

They cover dropout, matrix products, attention with dropout, and the memory that glibc keeps on the heap. The
environment variable EDT_KERNELS=torch turns all of them off.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from edt_cli.models.typed import Function

FAST: ContextVar[bool] = ContextVar("fast", default=os.environ.get("EDT_KERNELS") != "torch")
"""Whether this module's operators are used instead of torch's."""
LEVELS = 1 << 16
"""Random values have 16 bits, so a dropout rate is exact to 1 / 65,536."""
LARGE = 4 << 20
"""Size in bytes from which a block is not allocated on the heap."""
SHORT = 64
"""Length of histories up to which the next batch can reuse nearly all freed blocks of the heap."""
_M_MMAP_THRESHOLD = -3


@contextmanager
def torch_alone() -> Iterator[None]:
    """Use torch's operators within this context."""
    token = FAST.set(False)
    try:
        yield
    finally:
        FAST.reset(token)


TWICE: ContextVar[bool] = ContextVar("twice", default=False)
"""Whether gradients must be differentiable themselves."""


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Use only operators whose gradients can be differentiated again within this context."""
    token = TWICE.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        TWICE.reset(token)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Inverted dropout.

    On a CPU torch draws one slow Bernoulli value per element; here one draw serves four elements.
    """
    if x.device.type != "cpu" or not FAST.get():
        return F.dropout(x, rate)
    return _Dropped.apply(x, round(rate * LEVELS))


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
    """Draw a bool mask that is False with probability `dropped` / LEVELS."""
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return bits[:count].view(shape) >= dropped - LEVELS // 2


def dropped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """Compute dropout(softmax(q k^T / sqrt(d))) v on a CPU, [B, H, L, d] each.

    The L x L matrices are computed for a few rows at a time, and again in the backward pass, so that neither the
    cache nor memory has to hold them; only the dropout mask is kept.

    `mask`: bool, broadcastable to [B, H, L, L], True where a query may look.
    """
    return _DroppedAttention.apply(q, k, v, mask, round(rate * LEVELS))


CELLS = 1 << 20
"""Elements of the L x L matrices that are held at once."""


class _DroppedAttention(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropped: int) -> Tensor:
        ctx.keep = _kept(q.shape[:3] + q.shape[2:3], dropped)
        ctx.scale = LEVELS / (LEVELS - dropped)
        ctx.save_for_backward(q, k, v, mask)
        out = torch.empty_like(v)
        for rows in _row_slices(q):
            weights = _weights(q[rows], k[rows], _rows_of_mask(mask, rows))
            out[rows] = weights.mul_(ctx.keep[rows]).mul_(ctx.scale) @ v[rows]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5
        for rows in _row_slices(q):
            weights = _weights(q[rows], k[rows], _rows_of_mask(mask, rows))
            kept = ctx.keep[rows].to(q.dtype).mul_(ctx.scale)
            of_v[rows] = (weights * kept).transpose(-2, -1) @ gradient[rows]
            of_weights = (gradient[rows] @ v[rows].transpose(-2, -1)).mul_(kept)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_q[rows] = (of_scores @ k[rows]).mul_(scale)
            of_k[rows] = of_scores.transpose(-2, -1) @ (q[rows] * scale)
        return of_q, of_k, of_v, None, None


def _row_slices(q: Tensor) -> list[slice]:
    step = max(1, CELLS // max(1, q.shape[1] * q.shape[2] ** 2))
    return [slice(at, at + step) for at in range(0, len(q), step)]


def _rows_of_mask(mask: Tensor | None, rows: slice) -> Tensor | None:
    return mask[rows] if mask is not None and mask.dim() == 4 and len(mask) > 1 else mask


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x weight^T + bias: x [..., in], weight [out, in], bias [out] -> [..., out].

    torch's x86 wheels use MKL for float32 products, which uses half of the vector width of an AMD processor.
    oneDNN, through the operator that torch.compile replaces them with, is up to four times as fast.
    """
    if (
        _ONEDNN
        and x.device.type == "cpu"  # first: torch.compile cannot follow what comes next
        and FAST.get()
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    ):
        return _OneDNN.apply(x, weight, bias)
    return F.linear(x, weight, bias)


_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # A non-contiguous weight (a slice of columns) would take hundreds of times as long.
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
        # Uses `linear` because the operator has no gradient, and this product may be differentiated again.
        of_x = linear(gradient, weight.T.contiguous()) if ctx.needs_input_grad[0] else None
        # The long dimension of this product is the inner one, for which MKL is not slower.
        of_weight = rows.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def map_large_blocks(max_length: int) -> None:
    """Make glibc map large blocks separately if histories may be long.

    Freed blocks are then returned to the operating system at once. Training needs a quarter less memory and a sixth
    to a third more time, as new pages have to be cleared. If the environment sets glibc's own setting
    MALLOC_MMAP_THRESHOLD_ (at most 33554432), that is used instead.
    """
    if FAST.get() and max_length > SHORT and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _glibc("mallopt", _M_MMAP_THRESHOLD, LARGE)


def trim_heap() -> None:
    """Return unused heap memory to the operating system.

    Call it between epochs: at every step it would take more than a third of the time of a large model.
    """
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)
    except (OSError, AttributeError):
        return
