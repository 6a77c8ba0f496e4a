"""What a score may know beyond an inner product: which items met the history's in training, whose titles read like
theirs, and how often each was had, and when. An id's vector has to learn that from few interactions; a memory
has it.
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
from edt_cli.data.dataset import Sequences, TrainingView
from edt_cli.models.batch import Batch, ItemTable
from edt_cli.models.item_knn import cooccurrence
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.side_score import SideScore
from edt_cli.models.user_interactions import Occurrences, UserInteractions

SHARPNESS = 30.0
"""Of the logarithm that is taken of meetings: a pair that met once, next to each other, is far from nothing."""
CELLS = 8_000_000
"""Similarities held at a time while the nearest titles are sought."""
DAY = 86_400


@dataclass(frozen=True)
class Neighbours:
    """The K nearest items of one domain to each item. columns: long [1 + N + P, K], places within the domain, its
    size where there are fewer; weights: float [1 + N + P, K], 0 there."""

    columns: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Neighbours:
        return Neighbours(self.columns.to(device), self.weights.to(device))

    def spread(
        self,
        window: Tensor,
        decay: Tensor,
        place: Tensor,
        size: int,
        how: str,
        then: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """[R, size]: for each row of `window` (long [R, W]) the sum (or the maximum: "amax") of the weights of its
        items' neighbours, times decay [W], at place[column]; what is placed at `size` is dropped. `then`, by which
        0 stays 0, is taken of what is there, which is little of a row."""
        at = place[self.columns[window].flatten(1)]
        weights = (self.weights[window] * decay[:, None]).flatten(1)
        out = weights.new_zeros(len(window), size + 1)
        out.scatter_reduce_(1, at, weights, how)
        if then is not None:
            out.scatter_(1, at, then(out.gather(1, at)))
        return out[:, :size]

    def at(self, window: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """[R, W] each: the weight that columns [R] have among the neighbours of each item, and whether they are
        among them."""
        hit = self.columns[window] == columns[:, None, None]
        return (self.weights[window] * hit).amax(-1), hit.any(-1)


def has_seasons(prefixes: Sequences, days: int) -> bool:
    """Whether times span more than one period of `days`: places in a sequence, given as times, do not."""
    times = prefixes.times
    return times is not None and len(times) > 0 and int(times.max()) - int(times.min()) >= days * DAY


class Seasons(nn.Module):
    """When items were had in training: how often in each period of some days.

    A history stands in the period of its newest item; what the target's is, nobody is told. Other users' training
    interactions count whenever they were, as they do for every system under leave-one-out: with the count over all
    periods beside it, the one until now tells how much of an item's life lies behind. Where a model must not know
    what comes later, it is to be judged by the split `global-time`.
    """

    def __init__(self, prefixes: Sequences, items: int, days: int) -> None:
        super().__init__()
        times = prefixes.times
        assert times is not None
        self.first, self.length = int(times.min()), days * DAY
        period = (times - self.first) // self.length
        self.last = int(period.max())
        had = np.zeros((self.last + 2, items), dtype=np.float32)
        np.add.at(had, (period + 1, prefixes.items), 1)
        self.register_buffer("until", torch.from_numpy(np.cumsum(had, 0, out=had)), persistent=False)
        self.register_buffer("periods", torch.from_numpy(period), persistent=False)

    until: Tensor
    """float32 [1 + periods, 1 + N + P]: training interactions of each item before each period."""
    periods: Tensor
    """long, of each training interaction."""

    def of(self, batch: Batch) -> Tensor:
        """long [B, L]: the period at each position. A history without times stands in the newest period."""
        if batch.times is None:
            return torch.full_like(batch.items, self.last)
        return ((batch.times - self.first) // self.length).clamp(0, self.last)

    def at_targets(self, now: Tensor, targets: Tensor, own: Occurrences) -> list[Tensor]:
        """[P] each: others' interactions with the targets in the period of each position, and until its end.
        now: long [P], of `of`; own: the users' with the targets."""
        before, until = self.until[now, targets], self.until[now + 1, targets]
        for rows, places in own:
            period = self.periods[places]
            before[rows] -= (period < now[rows]).float()
            until[rows] -= (period <= now[rows]).float()
        return [until - before, until]

    def at_items(self, now: Tensor, items: Tensor | slice) -> list[Tensor]:
        """[P, K] each: the same for items long [K], whoever had them."""
        of_items = self.until[:, items]
        until = of_items[now + 1]
        return [until - of_items[now], until]


class Memory(SideScore):
    """w1 log(1 + c sum_a pairs(h_a, v) / a^2) + w2 log(1 + n_v) + w3 max_a titles(h_a, v) + w4 max_a texts(h_a, v)
    + w5 log(1 + n_v(t)) + w6 log(1 + n_v(until t)), added to the score of v.

    h_a is the a-th newest of the history's `window` newest items; pairs(h, v) their `cooccurrence` in training over
    sqrt(n_h); n the training interactions, with `memory_period` also those in and until the period t of the newest
    item (`Seasons`); titles and texts, within a domain, the cosines of the titles' character grams and of the text
    vectors, where the model has them. w is learned for each domain, with the rest. A training target has the score
    that all others' pairs and counts give it: what the user's own interactions with it add is left out, before and
    after the position, else the memory knows the answer.
    """

    meetings: list[Neighbours]
    alike: list[list[Neighbours]]

    def __init__(self, view: TrainingView, table: ItemTable, s: ModelSettings, o: LLMEDTOptions) -> None:
        super().__init__()
        self.calibrate = o.calibrate
        device = table.domain_of.device
        self.starts = torch.from_numpy(table.domains.starts).tolist()
        self.window = o.memory_window
        counts = np.zeros(len(table.domain_of))
        counts[: table.catalogue + 1] = view.popularity()
        scale = 1.0 / np.sqrt(np.maximum(counts, 1))
        pairs = (diags(scale[: table.catalogue + 1]) @ cooccurrence(view, s.knn_window)).tocsr()
        titles = view.catalogue["title"].fill_null("").to_list()
        total, count = len(table.domain_of), o.memory_neighbours
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
        self.register_buffer("scale", torch.from_numpy(scale).float().to(device), persistent=False)
        self.register_buffer("counts", torch.from_numpy(counts).float().to(device), persistent=False)
        self.interactions = UserInteractions(view.prefixes, total, s.knn_window).to(device)
        self.rows_a_user = len(table.domains) if s.sequence == "single" else 1
        self.period = o.memory_period
        self.seasons: Seasons | None = None
        if o.memory_period is not None and has_seasons(view.prefixes, o.memory_period):
            self.seasons = Seasons(view.prefixes, total, o.memory_period).to(device)
        seasons = [] if self.seasons is None else [0.0, 0.0]
        start = torch.tensor([0.5, 0.3] + [1.0] * len(likes) + seasons).to(device)
        self.weight = nn.Parameter(start.repeat(len(table.domains), 1))
        self.width = self.window + (1 if self.seasons is None else 2)

    decay: Tensor
    flat: Tensor
    scale: Tensor
    counts: Tensor

    def remarks(self) -> list[str]:
        days = self.period
        if days is None or self.seasons is not None:
            return []
        return [f"all times lie within {days} days: the memory counts without memory_period"]

    def context(self, batch: Batch) -> Tensor:
        """long [B, L, W]: the newest items at each position, newest first, 0 where there are none; then the user,
        who matters in training, and with seasons the period."""
        items = F.pad(batch.items, (self.window - 1, 0)).unfold(1, self.window, 1).flip(-1)
        users = (batch.rows // self.rows_a_user)[:, None].expand_as(batch.items)
        seasons = [] if self.seasons is None else [self.seasons.of(batch)]
        return torch.cat([items, torch.stack([users, *seasons], -1)], -1)

    def of_targets(self, context: Tensor, targets: Tensor, domain: int) -> Tensor:
        windows, users, periods = context[:, : self.window], context[:, self.window], context[:, -1]
        columns = targets - self.starts[domain]
        own = self.interactions.of(users, targets)
        of_pairs, kept = self.meetings[domain].at(windows, columns)
        of_others = of_pairs - self.scale[windows] * kept * self.interactions.pairs(own, windows)
        # No matrix product: in bfloat16 what is left of 1 - 1 would not be 0.
        met = (of_others * self.decay).sum(1).clamp_min(0)
        alike = [one.at(windows, columns)[0].amax(1) for one in self.alike[domain]]
        counts = self.counts[targets]
        for rows, _ in own:
            counts[rows] -= 1
        each = [counts] if self.seasons is None else [counts, *self.seasons.at_targets(periods, targets, own)]
        return self.weighed(_terms(_told(met), each, alike), domain)

    def terms(self, context: Tensor, domain: int, items: Tensor | None = None) -> list[Tensor]:
        windows, periods = context[:, : self.window], context[:, -1]
        start, size = self.starts[domain], self.starts[domain + 1] - self.starts[domain]
        place = torch.arange(size + 1, device=windows.device)
        of: Tensor | slice = slice(start, start + size)
        if items is not None:
            of, size = items, len(items)
            place = torch.full_like(place, size)
            place[items - start] = torch.arange(size, device=windows.device)
        met = self.meetings[domain].spread(windows, self.decay, place, size, "sum", _told)
        alike = [one.spread(windows, self.flat, place, size, "amax") for one in self.alike[domain]]
        counts = [self.counts[of]]
        if self.seasons is not None:
            counts += self.seasons.at_items(periods, of)
        return _terms(met, counts, alike)


def _told(met: Tensor) -> Tensor:
    return torch.log1p(SHARPNESS * met)


def _terms(told: Tensor, counts: list[Tensor], alike: list[Tensor]) -> list[Tensor]:
    of_all, *of_seasons = (torch.log1p(count) for count in counts)
    return [told, of_all, *alike, *of_seasons]


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
