"""Dropout, linear layers, and small layers built from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.models.kernels import dropout, linear
from edt_cli.models.typed import Layer


class Dropout(Layer):
    """Inverted dropout."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training and self.rate else x


class LoRA(Layer):
    """A low-rank map x down^T up^T (Hu et al., ICLR '22); it starts at zero, as `down` does."""

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
    """`torch.nn.Linear` with the faster product of `kernels.linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)
