"""What a score may know beyond an inner product: which items met the history's in training, whose titles read like
theirs, and how often each was had. An id's vector has to learn that from few interactions; a memory has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.models.batch import ItemTable
from edt_cli.models.item_knn import cooccurrence

SHARPNESS = 30.0
"""Of the logarithm that is taken of meetings: a pair that met once, next to each other, is far from nothing."""
CELLS = 8_000_000
"""Similarities held at a time while the nearest titles are sought."""


@dataclass(frozen=True)
class Neighbours:
    """The K nearest items of one domain to each item. columns: long [1 + N + P, K], places within the domain, its
    size where there are fewer; weights: float [1 + N + P, K], 0 there."""

    columns: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Neighbours:
        return Neighbours(self.columns.to(device), self.weights.to(device))

    def spread(self, window: Tensor, decay: Tensor, place: Tensor, size: int, how: str) -> Tensor:
        """[R, size]: for each row of `window` (long [R, W]) the sum (or the maximum: "amax") of the weights of its
        items' neighbours, times decay [W], at place[column]; what is placed at `size` is dropped."""
        at = place[self.columns[window].flatten(1)]
        weights = (self.weights[window] * decay[:, None]).flatten(1)
        out = weights.new_zeros(len(window), size + 1)
        return out.scatter_reduce_(1, at, weights, how)[:, :size]

    def at(self, window: Tensor, decay: Tensor, columns: Tensor, how: str) -> Tensor:
        """[R]: what `spread` puts at columns [R]."""
        hit = self.columns[window] == columns[:, None, None]
        found = (self.weights[window] * hit).amax(-1) * decay
        return found.sum(1) if how == "sum" else found.amax(1)


class Memory(nn.Module):
    """w1 log(1 + c sum_a pairs(h_a, v) / a^2) + w2 log(1 + n_v) + w3 max_a titles(h_a, v) + w4 max_a texts(h_a, v),
    added to the score of v.

    h_a is the a-th newest of the history's `window` newest items; pairs(h, v) their `cooccurrence` in training over
    sqrt(n_h); n the training interactions; titles and texts, within a domain, the cosines of the titles' character
    grams and of the text vectors, where the model has them. w is learned for each domain, with the rest. At a
    training position the user's own meeting of history and target is left out, else the memory knows the answer.
    """

    meetings: list[Neighbours]
    alike: list[list[Neighbours]]

    def __init__(self, view: TrainingView, table: ItemTable, s: ModelSettings) -> None:
        super().__init__()
        device = table.domain_of.device
        self.starts = torch.from_numpy(table.domains.starts).tolist()
        self.window = s.memory_window
        counts = np.zeros(len(table.domain_of))
        counts[: table.catalogue + 1] = view.popularity()
        scale = 1.0 / np.sqrt(np.maximum(counts, 1))
        pairs = (diags(scale[: table.catalogue + 1]) @ cooccurrence(view, s.knn_window)).tocsr()
        titles = view.catalogue["title"].fill_null("").to_list()
        total, count = len(table.domain_of), s.memory_neighbours
        self.meetings, self.alike = [], []
        for domain in range(len(table.domains)):
            items = table.domains.range(domain)
            of_domain = pairs[:, items.start : items.stop].tocsr()
            self.meetings.append(_largest(of_domain, count, total).to(device))
            likes = [_alike_titles(titles[items.start - 1 : items.stop - 1], items, count, total).to(device)]
            if table.text is not None:
                likes.append(_alike_texts(table.text[items.start : items.stop], items, count, total))
            self.alike.append(likes)
        age = torch.arange(1, self.window + 1, device=device, dtype=torch.float32)
        self.register_buffer("decay", age**-2, persistent=False)
        self.register_buffer("flat", torch.ones_like(age), persistent=False)
        self.register_buffer("own_share", self.decay / age * (age <= s.knn_window), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale).float().to(device), persistent=False)
        self.register_buffer("counts", torch.from_numpy(counts).float().to(device), persistent=False)
        start = torch.tensor([0.5, 0.3] + [1.0] * len(likes), device=device)
        self.weight = nn.Parameter(start.repeat(len(table.domains), 1))

    decay: Tensor
    flat: Tensor
    own_share: Tensor
    scale: Tensor
    counts: Tensor

    def windows(self, items: Tensor) -> Tensor:
        """long [B, L] -> [B, L, W]: the newest items at each position, newest first, 0 where there are none."""
        return F.pad(items, (self.window - 1, 0)).unfold(1, self.window, 1).flip(-1)

    def of_targets(self, windows: Tensor, targets: Tensor, domain: int) -> Tensor:
        """[P] for training positions: windows long [P, W], targets long [P], all of `domain`."""
        columns = targets - self.starts[domain]
        met = self.meetings[domain].at(windows, self.decay, columns, "sum")
        met = (met - (self.scale[windows] * (windows > 0)) @ self.own_share).clamp_min(0)
        alike = [one.at(windows, self.flat, columns, "amax") for one in self.alike[domain]]
        return self._weighed(met, (self.counts[targets] - 1).clamp_min(0), alike, domain)

    def of_items(self, windows: Tensor, domain: int, items: Tensor | None = None) -> Tensor:
        """[P, K] for items long [K] of `domain`, or for all of its catalogue [P, N_d]."""
        start, size = self.starts[domain], self.starts[domain + 1] - self.starts[domain]
        place = torch.arange(size + 1, device=windows.device)
        if items is not None:
            place = torch.full_like(place, len(items))
            place[items - start] = torch.arange(len(items), device=windows.device)
        else:
            items = torch.arange(start, start + size, device=windows.device)
        met = self.meetings[domain].spread(windows, self.decay, place, len(items), "sum")
        alike = [one.spread(windows, self.flat, place, len(items), "amax") for one in self.alike[domain]]
        return self._weighed(met, self.counts[items], alike, domain)

    def _weighed(self, met: Tensor, counts: Tensor, alike: list[Tensor], domain: int) -> Tensor:
        of_met, of_count, *of_alike = self.weight[domain]
        score = of_met * torch.log1p(SHARPNESS * met) + of_count * torch.log1p(counts)
        return sum((weight * one for weight, one in zip(of_alike, alike, strict=True)), score)


def _largest(matrix: csr_matrix, count: int, rows: int) -> Neighbours:
    """The `count` largest entries of each row; rows beyond the matrix's own have none."""
    size = matrix.shape[1]
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row))
    rank = np.arange(len(row)) - matrix.indptr[row]
    kept = rank < count
    columns = np.full((rows, count), size)
    weights = np.zeros((rows, count), dtype=np.float32)
    columns[row[kept], rank[kept]] = matrix.indices[order][kept]
    weights[row[kept], rank[kept]] = matrix.data[order][kept]
    return Neighbours(torch.from_numpy(columns), torch.from_numpy(weights))


def _alike_titles(titles: list[str], rows: range, count: int, total: int) -> Neighbours:
    """The `count` most alike titles of a domain to each of its items `rows`: the cosine of TF-IDF over four
    characters within a word. Grams that over a twentieth of the titles share tell nothing, nor do a title's own."""
    # Not at the top: it is half a second and 60 MB, for those alone who have a memory.
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = max(2, len(titles) // 20)
    grams = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), min_df=2, max_df=common, sublinear_tf=True, dtype=np.float32
    )
    try:
        vectors = grams.fit_transform(titles)
    except ValueError:  # No two titles share a gram.
        vectors = csr_matrix((len(titles), 1), dtype=np.float32)
    return _nearest(lambda own: torch.from_numpy((vectors[own] @ vectors.T).toarray()), rows, count, total)


def _alike_texts(vectors: Tensor, rows: range, count: int, total: int) -> Neighbours:
    """The same by the cosine of unit vectors [N_d, d_L]."""
    return _nearest(lambda own: vectors[own] @ vectors.T, rows, count, total)


def _nearest(cosines: Callable[[slice], Tensor], rows: range, count: int, total: int) -> Neighbours:
    """The items of largest cosine [n, N_d] to each of `rows`, itself among them; of what is not above 0, none."""
    size = len(rows)
    step = max(1, CELLS // max(1, size))
    found = [cosines(slice(at, at + step)).topk(min(count, size), dim=1) for at in range(0, size, step)]
    weights = torch.cat([best.values for best in found]) if found else torch.zeros(0, 0)
    columns = torch.cat([best.indices for best in found]) if found else torch.zeros(0, 0, dtype=torch.long)
    out = Neighbours(
        torch.full((total, count), size, device=columns.device), torch.zeros(total, count, device=weights.device)
    )
    own = slice(rows.start, rows.stop)
    out.columns[own, : columns.shape[1]] = torch.where(weights > 0, columns, size)
    out.weights[own, : weights.shape[1]] = weights.clamp_min(0)
    return out
