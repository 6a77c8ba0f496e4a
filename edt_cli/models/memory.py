"""What a score may know beyond an inner product: which items met the history's in training, whose titles read like
theirs, and how often each was had. An id's vector has to learn that from few interactions; a memory has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import TfidfVectorizer
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
    """w1 log(1 + c sum_a pairs(h_a, v) / a^2) + w2 max_a cos(h_a, v) + w3 log(1 + n_v), added to the score of v.

    h_a is the a-th newest of the history's `window` newest items; pairs(h, v) their `cooccurrence` in training over
    sqrt(n_h); n the training interactions; cos that of the texts, within a domain. w is learned for each domain,
    with the rest of the model. At a training position the user's own meeting of history and target is left out,
    else the memory would know the answer.
    """

    meetings: list[Neighbours]
    titles: list[Neighbours]

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
        self.meetings, self.titles = [], []
        for domain in range(len(table.domains)):
            items = table.domains.range(domain)
            of_domain = pairs[:, items.start : items.stop].tocsr()
            self.meetings.append(_largest(of_domain, s.memory_neighbours, len(table.domain_of)).to(device))
            own = titles[items.start - 1 : items.stop - 1]
            self.titles.append(_alike(own, items, s.memory_neighbours, len(table.domain_of)).to(device))
        age = torch.arange(1, self.window + 1, device=device, dtype=torch.float32)
        self.register_buffer("decay", age**-2, persistent=False)
        self.register_buffer("flat", torch.ones_like(age), persistent=False)
        self.register_buffer("own_share", self.decay / age * (age <= s.knn_window), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale).float().to(device), persistent=False)
        self.register_buffer("counts", torch.from_numpy(counts).float().to(device), persistent=False)
        self.weight = nn.Parameter(torch.tensor([[0.5, 1.0, 0.3]], device=device).repeat(len(table.domains), 1))

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
        alike = self.titles[domain].at(windows, self.flat, columns, "amax")
        return self._weighed(met, alike, (self.counts[targets] - 1).clamp_min(0), domain)

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
        alike = self.titles[domain].spread(windows, self.flat, place, len(items), "amax")
        return self._weighed(met, alike, self.counts[items], domain)

    def _weighed(self, met: Tensor, alike: Tensor, counts: Tensor, domain: int) -> Tensor:
        of_met, of_alike, of_count = self.weight[domain]
        return of_met * torch.log1p(SHARPNESS * met) + of_alike * alike + of_count * torch.log1p(counts)


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


def _alike(titles: list[str], rows: range, count: int, total: int) -> Neighbours:
    """The `count` most alike titles of a domain to each of its items, itself among them: the cosine of TF-IDF over
    four characters within a word. Grams that over a twentieth of the titles share tell nothing, nor do a title's
    own."""
    columns = np.full((total, count), len(titles))
    weights = np.zeros((total, count), dtype=np.float32)
    common = max(2, len(titles) // 20)
    grams = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), min_df=2, max_df=common, sublinear_tf=True, dtype=np.float32
    )
    try:
        vectors = grams.fit_transform(titles)
    except ValueError:  # No two titles share a gram.
        return Neighbours(torch.from_numpy(columns), torch.from_numpy(weights))
    step = max(1, CELLS // len(titles))
    for start in range(0, len(titles), step):
        cosines = torch.from_numpy((vectors[start : start + step] @ vectors.T).toarray())
        nearest, at = cosines.topk(min(count, len(titles)), dim=1)
        own = slice(rows.start + start, rows.start + start + len(at))
        columns[own, : at.shape[1]] = torch.where(nearest > 0, at, len(titles))
        weights[own, : at.shape[1]] = nearest
    return Neighbours(torch.from_numpy(columns), torch.from_numpy(weights))
