"""Item encoders: text through an adapter (eq. 7), a learned vector for each id, or the sum of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings
from edt_cli.distributed.sharded import ShardedRows, shard
from edt_cli.models.batch import ItemTable
from edt_cli.models.kernels import linear
from edt_cli.models.layers import Linear
from edt_cli.models.typed import Layer

INITIAL_STD = 0.02
"""Standard deviation of initial weights."""
ROWS = 65_536
"""Rows that are whitened at once."""


class Adapter(Layer):
    """Eq. 7: W1 (W2 e + b2) + b1, without an activation in between.

    W2 maps d_in to `inner`, W1 maps `inner` to d_out.
    """

    def __init__(self, d_in: int, inner: int, d_out: int) -> None:
        super().__init__()
        self.inner = Linear(d_in, inner)
        self.outer = Linear(inner, d_out)

    def forward(self, e: Tensor) -> Tensor:
        """Apply the adapter, [..., d_in] -> [..., d_out].

        The two layers are one affine map, so they are folded into one matrix if there are enough
        rows for this to be faster.
        """
        if e.shape[:-1].numel() <= self.inner.out_features:
            return self.outer(self.inner(e))
        weight = self.outer.weight @ self.inner.weight
        return linear(e, weight, self.outer(self.inner.bias))


def _double(x: Tensor) -> Tensor:
    """Return a tensor in double precision, on the CPU if its device has none, as Apple's GPUs."""
    return (x if x.device.type in ("cpu", "cuda") else x.cpu()).double()


def whiten(vectors: Tensor, among: Tensor, ridge: float = 0.1) -> Tensor:
    """Centre and whiten text vectors over the rows `among` (bool [n]); zero rows stay zero.

    The result is (C + ridge * mean variance)^-1/2 (e - mean), where C is the covariance.

    Eq. 7 is an affine map of e, so an invertible affine map before it does not change what the adapter can express,
    only how fast it is learned: text vectors share most of their length, and what distinguishes items lies along
    directions that gradient descent reaches last.
    """
    sample = among.nonzero()[:, 0]
    if len(sample) < 2:
        return vectors
    # In blocks of rows: a million profiles in double precision need several times the memory of training.
    blocks = sample.split(ROWS)
    mean = torch.stack([_double(vectors[rows]).sum(0) for rows in blocks]).sum(0) / len(sample)
    centred = (_double(vectors[rows]) - mean for rows in blocks)
    variances, axes = torch.linalg.eigh(sum(block.T @ block for block in centred) / len(sample))
    scale = (variances.clamp_min(0) + ridge * variances.mean()).rsqrt()
    moved = torch.zeros_like(vectors)
    for rows in vectors.abs().sum(1).nonzero()[:, 0].split(ROWS):
        # The symmetric root is unique; the sign and order of the axes depend on the library.
        moved[rows] = ((_double(vectors[rows]) - mean) @ (axes * scale) @ axes.T).to(vectors)
    return moved


def pca_axes(sample: Tensor, size: int) -> Tensor:
    """Return the `size` leading principal axes of rows [n, d_L], [size, d_L].

    If there are fewer axes, all are returned.

    The sign of each axis is chosen so that its largest entry is positive, since libraries differ in it. The result
    has the type of the rows.
    """
    centred = _double(sample) - _double(sample).mean(0)
    axes: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1).T[:size]
    return (axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()).to(sample)


def project_pca(vectors: Tensor, among: Tensor, size: int) -> Tensor:
    """Project text vectors on principal axes, [n, d_L] -> [n, size].

    The axes are the `size` leading ones of the rows `among` (bool [n]).

    Zero rows stay zero, and so do columns for which there is no further axis.
    """
    out = vectors.new_zeros(len(vectors), size)
    sample = _double(vectors[among])
    if len(sample) < 2:
        return out
    axes = pca_axes(sample, size).T
    moved = ((_double(vectors) - sample.mean(0)) @ axes).to(vectors)
    out[:, : axes.shape[1]] = torch.where(vectors.abs().sum(1, keepdim=True) > 0, moved, 0.0)
    return out


class ItemEncoder(Layer):
    """Base class of encoders: item ids [...] to vectors [..., D]; padding is the zero vector."""

    def forward(self, ids: Tensor) -> Tensor:
        raise NotImplementedError


class IdEncoder(ItemEncoder):
    """A learned vector for each item of training; any other item gets the mean of these vectors.

    `start` [1 + N + P, D] holds initial vectors, zero rows for a random start. An item that training never saw has
    a separate vector if it has an initial one, unless it was added after training.
    """

    def __init__(
        self, table: ItemTable, hidden: int, start: Tensor | None = None, std: float = INITIAL_STD
    ) -> None:
        super().__init__()
        started = torch.zeros_like(table.seen) if start is None else (start != 0).any(1)
        if table.new is not None:
            started = started & ~table.new
        learned = table.seen | started
        self.register_buffer("row_of", torch.cumsum(learned, 0) * learned, persistent=False)
        self.weight = nn.Parameter(torch.empty(int(learned.sum()), hidden))
        nn.init.normal_(self.weight, std=std)
        if start is not None:
            with torch.no_grad():
                self.weight[started[learned].cpu()] = start[started].cpu()
        self.sharded: ShardedRows | None = None

    row_of: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.row_of[ids]
        at = (rows - 1).clamp_min(0)
        if self.sharded is None:
            vectors, mean = F.embedding(at, self.weight), self.weight.detach().mean(0)
        else:
            vectors, mean = self.sharded.lookup(at)
        return torch.where((rows > 0).unsqueeze(-1), vectors, mean) * (ids > 0).unsqueeze(-1)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.sharded is not None:
            assert self.sharded.whole is not None, "only the leader has all rows, and not while it trains"
            destination[f"{prefix}weight"] = self.sharded.whole

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        name = f"{prefix}weight"
        if self.sharded is not None and name in state_dict:
            self.sharded.have(state_dict[name])
            state_dict = {**state_dict, name: self.sharded.own(state_dict[name])}
        super()._load_from_state_dict(state_dict, prefix, *others)


def shard_ids(model: nn.Module) -> int:
    """Share out the rows of a model's tables of ids to the processes that train together.

    Every process has made the same model.

    Returns:
        How many tables there are.
    """
    encoders = [module for module in model.modules() if isinstance(module, IdEncoder)]
    for encoder, rows in zip(encoders, shard(encoder.weight for encoder in encoders), strict=True):
        encoder.sharded = rows
    return len(encoders)


class TextEncoder(ItemEncoder):
    """Eq. 7 over whitened text vectors; an item without text has a learned vector in R^d instead."""

    def __init__(self, table: ItemTable, s: ModelSettings) -> None:
        super().__init__()
        assert table.text is not None, "this encoder needs text vectors"
        has_text = table.text.abs().sum(1) > 0
        among = has_text & table.seen
        text = whiten(table.text, among)
        if s.text_length is not None and bool(among.any()):
            text = text * (s.text_length / text[among].norm(dim=1).mean())
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("has_text", has_text, persistent=False)
        # Moved right away, because `_start` applies it to the text, which is on the table's device.
        self.adapter = Adapter(text.shape[1], text.shape[1] // 2, s.hidden).to(text.device)
        if bool(among.any()):
            self._start(text[among], s)
        without = ItemTable(table.domains, table.domain_of, table.counts.masked_fill(has_text, 0))
        self.without_text = IdEncoder(without, s.hidden, std=s.item_std) if bool(without.seen.any()) else None

    text: Tensor
    has_text: Tensor

    @torch.no_grad()
    def _start(self, text: Tensor, s: ModelSettings) -> None:
        """Initialise the adapter so that item vectors have entries of the standard deviation `item_std`.

        With `text_start = principal` they start as the leading principal components of the text.
        """
        inner, outer = self.adapter.inner, self.adapter.outer
        if s.text_start == "principal":
            axes = pca_axes(text, len(inner.weight))
            nn.init.zeros_(inner.weight)
            inner.weight[: len(axes)] = axes
            nn.init.zeros_(inner.bias)
            kept = min(s.hidden, len(axes))
            nn.init.zeros_(outer.weight)
            outer.weight[:, :kept] = nn.init.orthogonal_(outer.weight.new_empty(s.hidden, kept))
        nn.init.zeros_(outer.bias)
        spread = self.adapter(text).std()
        if float(spread) > 0:
            outer.weight.mul_(s.item_std / spread)

    def forward(self, ids: Tensor) -> Tensor:
        unique, inverse = torch.unique(ids, return_inverse=True)
        vectors = self.adapter(self.text[unique])
        other = torch.zeros_like(vectors) if self.without_text is None else self.without_text(unique)
        vectors = torch.where(self.has_text[unique].unsqueeze(-1), vectors, other.to(vectors.dtype))
        return F.embedding(inverse, vectors)


class TextAndIdEncoder(ItemEncoder):
    """The sum text(v) + n / (n + k) id(v), with n the training interactions of v and k `id_shrinkage`.

    What few interactions say about an item is mostly chance, while its text always holds. An item without
    interactions is represented by its text alone.

    If the text starts as its principal components, id vectors start at zero, so that an item starts as its text;
    otherwise both start at random.
    """

    def __init__(self, table: ItemTable, s: ModelSettings) -> None:
        super().__init__()
        share = table.counts / (table.counts + s.id_shrinkage) if s.id_shrinkage else torch.ones(len(table.counts))
        self.register_buffer("share", share.to(table.counts.device).unsqueeze(1), persistent=False)
        self.by_text = TextEncoder(table, s)
        self.by_id = IdEncoder(table, s.hidden, std=0.0 if s.text_start == "principal" else s.item_std)

    share: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        return self.by_text(ids) + self.share[ids] * self.by_id(ids)


def make_encoder(table: ItemTable, s: ModelSettings) -> ItemEncoder:
    """Make the item encoder that the settings name."""
    if s.encoder == "id":
        return IdEncoder(table, s.hidden, std=s.item_std)
    return TextEncoder(table, s) if s.encoder == "llm" else TextAndIdEncoder(table, s)
