"""Item encoders: text through an adapter (eq. 7), an id's own vector, or the sum of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings
from edt_cli.models.batch import ItemTable
from edt_cli.models.kernels import linear
from edt_cli.models.layers import Linear
from edt_cli.models.typed import Layer

INITIAL_STD = 0.02
ROWS = 65_536


class Adapter(Layer):
    """Eq. 7: W1 (W2 e + b2) + b1, from d_in over `inner` to d_out; no activation stands between."""

    def __init__(self, d_in: int, inner: int, d_out: int) -> None:
        super().__init__()
        self.inner = Linear(d_in, inner)
        self.outer = Linear(inner, d_out)

    def forward(self, e: Tensor) -> Tensor:
        """[..., d_in] -> [..., d_out]. The two layers are one affine map, so they are folded into one matrix
        wherever there are more rows than the folding costs."""
        if e.shape[:-1].numel() <= self.inner.out_features:
            return self.outer(self.inner(e))
        weight = self.outer.weight @ self.inner.weight
        return linear(e, weight, self.outer(self.inner.bias))


def whiten(vectors: Tensor, among: Tensor, ridge: float = 0.1) -> Tensor:
    """Text vectors centred and whitened over the rows `among` (bool [n]); rows of zeros stay.

    Eq. 7 is an affine map of e, so an invertible affine map before it changes nothing that the adapter can express,
    only how soon it is learned: text vectors share most of their length, and what tells items apart lies along
    directions that gradient descent reaches last. (C + ridge * mean variance)^-1/2 (e - mean), C the covariance.
    """
    sample = among.nonzero()[:, 0]
    if len(sample) < 2:
        return vectors
    # In blocks of rows: in double precision a million profiles are several times what training itself needs.
    blocks = sample.split(ROWS)
    mean = torch.stack([vectors[rows].double().sum(0) for rows in blocks]).sum(0) / len(sample)
    centred = (vectors[rows].double() - mean for rows in blocks)
    variances, axes = torch.linalg.eigh(sum(block.T @ block for block in centred) / len(sample))
    scale = (variances.clamp_min(0) + ridge * variances.mean()).rsqrt()
    moved = torch.zeros_like(vectors)
    for rows in vectors.abs().sum(1).nonzero()[:, 0].split(ROWS):
        # The symmetric root: unlike the axes themselves, it has no sign or order that a library may choose.
        moved[rows] = ((vectors[rows].double() - mean) @ (axes * scale) @ axes.T).to(vectors.dtype)
    return moved


def pca_axes(sample: Tensor, size: int) -> Tensor:
    """The `size` widest directions of rows [n, d_L], or all that there are: [size, d_L], in the rows' type.

    An axis points where its largest entry is positive: a library may choose either sign.
    """
    centred = sample.double() - sample.double().mean(0)
    axes: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1).T[:size]
    return (axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()).to(sample.dtype)


def project_pca(vectors: Tensor, among: Tensor, size: int) -> Tensor:
    """Text vectors by their `size` principal components over the rows `among` (bool [n]): [n, d_L] -> [n, size].

    Rows of zeros stay; components beyond those that there are, are zero.
    """
    out = vectors.new_zeros(len(vectors), size)
    sample = vectors[among].double()
    if len(sample) < 2:
        return out
    axes = pca_axes(sample, size).T
    moved = ((vectors.double() - sample.mean(0)) @ axes).to(vectors.dtype)
    out[:, : axes.shape[1]] = torch.where(vectors.abs().sum(1, keepdim=True) > 0, moved, 0.0)
    return out


class ItemEncoder(Layer):
    """Item numbers to vectors [..., D]. Padding is a zero vector."""

    def forward(self, ids: Tensor) -> Tensor:
        raise NotImplementedError


class IdEncoder(ItemEncoder):
    """A learned vector for each item; one that training never saw takes the mean of the others.

    start: [1 + N + P, D], where vectors start, zero rows where that is left to chance. An item that training never
    saw has a vector of its own where it has a start.
    """

    def __init__(
        self, table: ItemTable, hidden: int, start: Tensor | None = None, std: float = INITIAL_STD
    ) -> None:
        super().__init__()
        started = torch.zeros_like(table.seen) if start is None else (start != 0).any(1)
        own = table.seen | started
        self.register_buffer("row_of", torch.cumsum(own, 0) * own, persistent=False)
        self.weight = nn.Parameter(torch.empty(int(own.sum()), hidden))
        nn.init.normal_(self.weight, std=std)
        if start is not None:
            with torch.no_grad():
                self.weight[started[own].cpu()] = start[started].cpu()

    row_of: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.row_of[ids]
        vectors = F.embedding((rows - 1).clamp_min(0), self.weight)
        mean = self.weight.detach().mean(0)
        return torch.where((rows > 0).unsqueeze(-1), vectors, mean) * (ids > 0).unsqueeze(-1)


class TextEncoder(ItemEncoder):
    """Eq. 7 over whitened text vectors; an item without text has a learned vector of its own in R^d."""

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
        # Moved at once, as the start needs what it gives for the text, which lies on the table's device.
        self.adapter = Adapter(text.shape[1], text.shape[1] // 2, s.hidden).to(text.device)
        if bool(among.any()):
            self._start(text[among], s)
        without = ItemTable(table.domains, table.domain_of, table.counts.masked_fill(has_text, 0))
        self.without_text = IdEncoder(without, s.hidden, std=s.item_std) if bool(without.seen.any()) else None

    text: Tensor
    has_text: Tensor

    @torch.no_grad()
    def _start(self, text: Tensor, s: ModelSettings) -> None:
        """Item vectors start with entries of the spread that ids' vectors have."""
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
        unique, place = torch.unique(ids, return_inverse=True)
        vectors = self.adapter(self.text[unique])
        other = torch.zeros_like(vectors) if self.without_text is None else self.without_text(unique)
        vectors = torch.where(self.has_text[unique].unsqueeze(-1), vectors, other.to(vectors.dtype))
        return F.embedding(place, vectors)


class TextAndIdEncoder(ItemEncoder):
    """text(v) + n / (n + k) id(v), n the interactions with v in training, k `id_shrinkage`: what few interactions
    say of an item is mostly chance, and its text holds all the same. An item without interactions is its text.

    Beside text that starts as its widest directions ids start at zero, so that an item starts as its text;
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
    if s.encoder == "id":
        return IdEncoder(table, s.hidden, std=s.item_std)
    return TextEncoder(table, s) if s.encoder == "llm" else TextAndIdEncoder(table, s)
