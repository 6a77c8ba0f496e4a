"""Sequence backbones: SASRec (ICDM '18), GRU4Rec (ICLR '16) and BERT4Rec (CIKM '19).

A backbone maps embedded items [B, L, D], padded on the right, to states [B, L, D]. State j depends only on items
up to j. `last` returns the state after the last item, [B, D]; for BERT4Rec this is far cheaper than all states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings
from edt_cli.models.batch import last_state
from edt_cli.models.kernels import FAST, dropped_attention, linear
from edt_cli.models.layers import Dropout, Linear
from edt_cli.models.typed import Embedding, Layer, LayerNorm, ModuleList, Sequential


class Backbone(Layer):
    """Base class of the backbones.

    A causal backbone is `encode` after `embed`, so that a system can insert something between the two.
    """

    bidirectional = False

    def embed(self, x: Tensor) -> Tensor:
        """Return the input of the layers, [B, L, D] -> [B, L, D], computed for each position separately."""
        raise NotImplementedError

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of an embedded sequence, [B, L, D] -> [B, L, D]."""
        raise NotImplementedError

    def encode_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the last state of an embedded sequence, [B, L, D] -> [B, D]; zero for an empty one."""
        return last_state(self.encode(x, lengths), lengths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of item vectors, [B, L, D] -> [B, L, D]."""
        return self.encode(self.embed(x), lengths)

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the last state of item vectors, [B, L, D] -> [B, D]; zero for an empty sequence."""
        return self.encode_last(self.embed(x), lengths)


AT_ONCE = 1 << 22
"""Maximum number of attention weights held at once; larger batches are computed a few rows at a time."""


class Attention(Layer):
    """Multi-head self-attention.

    It uses torch's fused kernel except for training on a CPU: there the kernel does not support dropout and is
    slower than plain products, several times so in bfloat16.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.drop = Dropout(dropout)
        self.qkv = Linear(hidden, 3 * hidden)
        self.out = Linear(hidden, hidden)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Return the attended states, [B, L, D] -> [B, L, D].

        `mask`: bool, broadcastable to [B, heads, L, L], True where a query may look.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.training and x.device.type == "cpu" and FAST.get():
            mixed = self._plain(q, k, v, mask, causal)
        else:
            dropout = self.drop.rate if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def of_last(self, x: Tensor, last: Tensor, visible: Tensor) -> Tensor:
        """Return `forward` for the single query `last` [B, D] over `x` [B, L, D]; `visible`: bool [B, L]."""
        hidden = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = linear(last, weight[:hidden], bias[:hidden]).unflatten(-1, (1, self.heads, -1)).transpose(1, 2)
        k, v = linear(x, weight[hidden:], bias[hidden:]).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :])
        return self.out(mixed.flatten(1))

    def _plain(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        if causal:
            mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
        if (
            self.drop.rate
            and len(q) * q.shape[1] * q.shape[2] ** 2 > AT_ONCE
            and not torch.is_autocast_enabled("cpu")
        ):
            return dropped_attention(q, k, v, mask, self.drop.rate)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return self.drop(scores.softmax(-1)) @ v


class SASRecBlock(Layer):
    """x + drop(attention(LN(x))), then x + drop(FFN(LN(x))), the FFN of width d (SASRec, eq. 4-6)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.norm_attention = LayerNorm(s.hidden, eps=1e-8)
        self.attention = Attention(s.hidden, s.heads, s.dropout)
        self.norm_feedforward = LayerNorm(s.hidden, eps=1e-8)
        inner, outer = Linear(s.hidden, s.hidden), Linear(s.hidden, s.hidden)
        self.feedforward = Sequential(inner, nn.ReLU(), Dropout(s.dropout), outer)
        self.drop = Dropout(s.dropout)
        if s.zero_start:
            for last in (self.attention.out, outer):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the states of the block, [B, L, D] -> [B, L, D].

        `mask`: bool, broadcastable to [B, heads, L, L], True where a query may look; causal if None.
        """
        x = x + self.drop(self.attention(self.norm_attention(x), mask, causal=mask is None))
        return x + self.drop(self.feedforward(self.norm_feedforward(x)))

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return `forward` after the last item only, [B, D], without dropout."""
        last = last_state(x, lengths)
        visible = torch.arange(x.shape[1], device=x.device) < lengths.clamp_min(1)[:, None]
        last = last + self.attention.of_last(self.norm_attention(x), self.norm_attention(last), visible)
        return last + self.feedforward(self.norm_feedforward(last))


class SASRec(Backbone):
    """Causal self-attention. Padding is on the right, so the causal mask hides it as well."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.scale = s.hidden**0.5
        self.positions = Embedding(s.max_length, s.hidden)
        self.drop = Dropout(s.dropout)
        self.blocks = ModuleList(SASRecBlock(s) for _ in range(s.blocks))
        self.norm = LayerNorm(s.hidden, eps=1e-8)
        nn.init.normal_(self.positions.weight, std=0.02)

    def embed(self, x: Tensor) -> Tensor:
        return self.drop(x * self.scale + self.positions.weight[: x.shape[1]])

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def encode_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.training:
            return super().encode_last(x, lengths)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.norm(self.blocks[-1].last(x, lengths)) * (lengths > 0).unsqueeze(1)


class GRU4Rec(Backbone):
    """A stack of GRU layers over the whole history, and a projection to the item space."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.drop = Dropout(s.dropout)
        between = s.dropout if s.blocks > 1 else 0.0
        self.gru = nn.GRU(s.hidden, s.hidden, s.blocks, batch_first=True, dropout=between)
        self.out = Linear(s.hidden, s.hidden)

    def embed(self, x: Tensor) -> Tensor:
        return self.drop(x)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.out(states)


class FeedForward(Layer):
    """LN(x + drop(FFN(x))), GELU of width 4d (BERT4Rec, eq. 4-6)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.inner = Linear(s.hidden, 4 * s.hidden)
        self.outer = Linear(4 * s.hidden, s.hidden)
        self.norm = LayerNorm(s.hidden)
        self.drop = Dropout(s.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.drop(self.outer(F.gelu(self.inner(x)))))


class BERT4RecBlock(Layer):
    """LN(x + drop(attention(x))), then `FeedForward` (BERT4Rec, eq. 1-6)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.attention = Attention(s.hidden, s.heads, s.dropout)
        self.norm = LayerNorm(s.hidden)
        self.drop = Dropout(s.dropout)
        self.feedforward = FeedForward(s)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the states of the block, [B, L, D] -> [B, L, D].

        `mask`: bool, broadcastable to [B, heads, L, L], True where a query may look; causal if None.
        """
        attended = self.attention(x, mask, causal=mask is None)
        return self.feedforward(self.norm(x + self.drop(attended)))

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return `forward` at each row's last state only, [B, D], without dropout.

        The last state attends to all `lengths` states of its row.
        """
        last = last_state(x, lengths)
        visible = torch.arange(x.shape[1], device=x.device) < lengths.clamp_min(1)[:, None]
        return self.feedforward(self.norm(last + self.attention.of_last(x, last, visible)))


class BERT4Rec(Backbone):
    """Bidirectional self-attention, trained to restore masked items.

    The next item of a prefix is predicted by a mask at its end.

    Positions count from the end, as in the original code, which pads on the left. The mask after a prefix thus has
    the same position as a masked last item in training.
    """

    bidirectional = True

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(s.hidden))
        self.positions = Embedding(s.max_length + 1, s.hidden)
        self.norm = LayerNorm(s.hidden)
        self.drop = Dropout(s.dropout)
        self.blocks = ModuleList(BERT4RecBlock(s) for _ in range(s.blocks))
        self.out = Sequential(Linear(s.hidden, s.hidden), nn.GELU(), LayerNorm(s.hidden))
        nn.init.normal_(self.positions.weight, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def restore(self, x: Tensor, lengths: Tensor, masked: Tensor) -> Tensor:
        """Return the states [B, L, D] of sequences whose items at `masked` (bool [B, L]) are hidden."""
        x = self._embedded(x, lengths, masked)
        visible = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[:, None, None, :]
        for block in self.blocks:
            x = block(x, visible)
        return self.out(x)

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the state of a mask after the last item; the last block is computed only there."""
        full = lengths + 1
        x = F.pad(x, (0, 0, 0, 1))
        steps = torch.arange(x.shape[1], device=x.device)
        masked = steps == lengths[:, None]
        if self.training:
            return last_state(self.restore(x, full, masked), full) * (lengths > 0).unsqueeze(1)
        x = self._embedded(x, full, masked)
        visible = (steps < full[:, None])[:, None, None, :]
        for block in self.blocks[:-1]:
            x = block(x, visible)
        return self.out(self.blocks[-1].last(x, full)) * (lengths > 0).unsqueeze(1)

    def _embedded(self, x: Tensor, lengths: Tensor, masked: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)
        age = (lengths[:, None] - 1 - steps).clamp_min(0)
        return self.drop(self.norm(torch.where(masked.unsqueeze(-1), self.mask_token, x) + self.positions(age)))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode each prefix separately with a mask appended.

        This takes L times the work, and is the only way not to see later items.
        """
        size, longest, hidden = x.shape
        out = x.new_zeros(size, longest, hidden)
        for length in range(1, longest + 1):
            rows = torch.nonzero(lengths >= length).squeeze(1)
            states = self.last(x[rows, :length], torch.full_like(rows, length))
            out[rows, length - 1] = states.to(out.dtype)
        return out


BACKBONES: dict[str, type[Backbone]] = {"sasrec": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec}


def compile_backbones(model: nn.Module, backend: str = "inductor") -> None:
    """Compile the backbones of a model by torch.compile, for histories of any length; weights keep their names.

    They are the part of a step whose shapes do not depend on what is in a batch. torch leaves out GRUs itself.

    Args:
        model: The model.
        backend: What torch compiles with.
    """
    for module in model.modules():
        if isinstance(module, Backbone):
            module.compile(dynamic=True, backend=backend)


def make_backbone(s: ModelSettings) -> Backbone:
    """Make the backbone that the settings name."""
    return BACKBONES[s.backbone](s)
