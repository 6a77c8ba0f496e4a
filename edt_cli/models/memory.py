"""The memory of the preset `best`: item statistics that are added to the score.

They are: which items occurred near the history's items in training, how similar titles and texts are, and how
often, and when, each item was interacted with. An item vector would have to learn this from few interactions; the
memory looks it up.
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
"""Factor inside the logarithm of the pair term, so that a pair that co-occurred once is far above zero."""
CELLS = 8_000_000
"""Similarities held in memory at once while the nearest titles are searched."""
DAY = 86_400


@dataclass(frozen=True)
class Neighbours:
    """The K nearest items of one domain to each item.

    Attributes:
        columns: Long [1 + N + P, K], positions within the domain; the size of the domain where there are fewer.
        weights: Float [1 + N + P, K], 0 where there are fewer.
    """

    columns: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Neighbours:
        return Neighbours(self.columns.to(device), self.weights.to(device))

    def spread(
        self,
        window: Tensor,
        decay: Tensor,
        target_columns: Tensor,
        size: int,
        how: str,
        then: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Scatter the weights of the neighbours of a window's items into score rows.

        Args:
            window: Long [R, W], items.
            decay: [W], a factor for each position of the window.
            target_columns: Long [N_d + 1], the output column of each item of the domain; `size` drops it.
            size: Number of output columns.
            how: How to combine the weights of one output column: "sum" or "amax" (maximum).
            then: A function with then(0) = 0 that is applied to the result. Only the columns that were written are
                computed, which are few of a row.

        Returns:
            [R, size].
        """
        at = target_columns[self.columns[window].flatten(1)]
        weights = (self.weights[window] * decay[:, None]).flatten(1)
        out = weights.new_zeros(len(window), size + 1)
        out.scatter_reduce_(1, at, weights, how)
        if then is not None:
            out.scatter_(1, at, then(out.gather(1, at)))
        return out[:, :size]

    def at(self, window: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Look up `columns` [R] among the neighbours of each item of the windows.

        Returns:
            [R, W] each: the weight, and whether the column is among the neighbours.
        """
        hit = self.columns[window] == columns[:, None, None]
        return (self.weights[window] * hit).amax(-1), hit.any(-1)


def has_seasons(prefixes: Sequences, days: int) -> bool:
    """Return whether the times span more than one period of `days`; positions used as times do not."""
    times = prefixes.times
    return times is not None and len(times) > 0 and int(times.max()) - int(times.min()) >= days * DAY


class Seasons(nn.Module):
    """Counts of each item's training interactions in each period of `days` days.

    A history belongs to the period of its newest item; the period of the target is never used. Other users'
    training interactions count whenever they happened, as for every system under leave-one-out evaluation: next to
    the count over all periods, the count until now shows how much of an item's life is over. To evaluate without
    knowledge of the future, use the split `global-time`.
    """

    def __init__(self, prefixes: Sequences, items: int, days: int) -> None:
        super().__init__()
        times = prefixes.times
        assert times is not None
        self.first, self.length = int(times.min()), days * DAY
        period = (times - self.first) // self.length
        self.last = int(period.max())
        counts = np.zeros((self.last + 2, items), dtype=np.float32)
        np.add.at(counts, (period + 1, prefixes.items), 1)
        self.register_buffer("until", torch.from_numpy(np.cumsum(counts, 0, out=counts)), persistent=False)
        self.register_buffer("periods", torch.from_numpy(period), persistent=False)

    until: Tensor
    """Float32 [1 + periods, 1 + N + P], the training interactions of each item before each period."""
    periods: Tensor
    """Long, the period of each training interaction."""

    def of(self, batch: Batch) -> Tensor:
        """Return the period at each position, long [B, L]; the newest one if the history has no times."""
        if batch.times is None:
            return torch.full_like(batch.items, self.last)
        return ((batch.times - self.first) // self.length).clamp(0, self.last)

    def at_targets(self, now: Tensor, targets: Tensor, occurrences: Occurrences) -> list[Tensor]:
        """Return other users' interactions with each target in the period of its position, and until its end.

        Args:
            now: Long [P], periods from `of`.
            targets: Long [P].
            occurrences: The interactions of the positions' users with the targets, which are subtracted.

        Returns:
            [P] each.
        """
        before, until = self.until[now, targets], self.until[now + 1, targets]
        for rows, positions in occurrences:
            period = self.periods[positions]
            before[rows] -= (period < now[rows]).float()
            until[rows] -= (period <= now[rows]).float()
        return [until - before, until]

    def at_items(self, now: Tensor, items: Tensor | slice) -> list[Tensor]:
        """Return the same two counts for items (long [K]), over all users: [P, K] each."""
        of_items = self.until[:, items]
        until = of_items[now + 1]
        return [until - of_items[now], until]


class Memory(SideScore):
    """The side score of LLM-EDT: pairs, counts, and similarity of titles and texts.

    The score of v gets w1 log(1 + c sum_a pairs(h_a, v) / a^2) + w2 log(1 + n_v) + w3 max_a titles(h_a, v)
    + w4 max_a texts(h_a, v) + w5 log(1 + n_v(t)) + w6 log(1 + n_v(until t)).

    h_a is the a-th newest of the history's `window` newest items; pairs(h, v) is their `cooccurrence` in training
    over sqrt(n_h); n counts training interactions, with `memory_period` also those in and until the period t of the
    newest item (`Seasons`); titles and texts are, within a domain, the cosines of the titles' character n-grams and
    of the text vectors, if the model has them. w is learned for each domain, with the rest of the model.

    At a training target only other users' pairs and counts are used: what the user's interactions with the target
    add, before and after the position, is subtracted. Otherwise the memory would know the answer.
    """

    cooccurring: list[Neighbours]
    similar: list[list[Neighbours]]

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
        self.cooccurring, self.similar = [], []
        for domain in range(len(table.domains)):
            items = table.domains.range(domain)
            of_domain = pairs[:, items.start : items.stop].tocsr()
            self.cooccurring.append(_largest(of_domain, count, total).to(device))
            neighbours = [_similar_titles(titles[items.start - 1 : items.stop - 1], items, count, total).to(device)]
            if table.text is not None:
                neighbours.append(_similar_texts(table.text[items.start : items.stop], items, count, total))
            self.similar.append(neighbours)
        age = torch.arange(1, self.window + 1, device=device, dtype=torch.float32)
        self.register_buffer("decay", age**-2, persistent=False)
        self.register_buffer("flat", torch.ones_like(age), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale).float().to(device), persistent=False)
        self.register_buffer("counts", torch.from_numpy(counts).float().to(device), persistent=False)
        self.interactions = UserInteractions(view.prefixes, total, s.knn_window).to(device)
        self.rows_per_user = len(table.domains) if s.sequence == "single" else 1
        self.period = o.memory_period
        self.seasons: Seasons | None = None
        if o.memory_period is not None and has_seasons(view.prefixes, o.memory_period):
            self.seasons = Seasons(view.prefixes, total, o.memory_period).to(device)
        seasons = [] if self.seasons is None else [0.0, 0.0]
        start = torch.tensor([0.5, 0.3] + [1.0] * len(neighbours) + seasons).to(device)
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
        """Return the context of each position, long [B, L, W].

        It holds the newest items, newest first, 0 where there are none; then the user, which is used in training
        only; and with seasons the period.
        """
        items = F.pad(batch.items, (self.window - 1, 0)).unfold(1, self.window, 1).flip(-1)
        users = (batch.rows // self.rows_per_user)[:, None].expand_as(batch.items)
        seasons = [] if self.seasons is None else [self.seasons.of(batch)]
        return torch.cat([items, torch.stack([users, *seasons], -1)], -1)

    def of_targets(self, context: Tensor, targets: Tensor, domain: int) -> Tensor:
        windows, users, periods = context[:, : self.window], context[:, self.window], context[:, -1]
        columns = targets - self.starts[domain]
        occurrences = self.interactions.of(users, targets)
        of_pairs, is_neighbour = self.cooccurring[domain].at(windows, columns)
        of_others = of_pairs - self.scale[windows] * is_neighbour * self.interactions.pairs(occurrences, windows)
        # Not a matrix product: in bfloat16 the remainder of 1 - 1 would not be 0.
        pairs = (of_others * self.decay).sum(1).clamp_min(0)
        similar = [neighbours.at(windows, columns)[0].amax(1) for neighbours in self.similar[domain]]
        counts = self.counts[targets]
        for rows, _ in occurrences:
            counts[rows] -= 1
        each = (
            [counts] if self.seasons is None else [counts, *self.seasons.at_targets(periods, targets, occurrences)]
        )
        return self.weighted(_terms(_log_pairs(pairs), each, similar), domain)

    def terms(self, context: Tensor, domain: int, items: Tensor | None = None) -> list[Tensor]:
        windows, periods = context[:, : self.window], context[:, -1]
        start, size = self.starts[domain], self.starts[domain + 1] - self.starts[domain]
        target_columns = torch.arange(size + 1, device=windows.device)
        of: Tensor | slice = slice(start, start + size)
        if items is not None:
            of, size = items, len(items)
            target_columns = torch.full_like(target_columns, size)
            target_columns[items - start] = torch.arange(size, device=windows.device)
        pairs = self.cooccurring[domain].spread(windows, self.decay, target_columns, size, "sum", _log_pairs)
        similar = [
            neighbours.spread(windows, self.flat, target_columns, size, "amax")
            for neighbours in self.similar[domain]
        ]
        counts = [self.counts[of]]
        if self.seasons is not None:
            counts += self.seasons.at_items(periods, of)
        return _terms(pairs, counts, similar)


def _log_pairs(pairs: Tensor) -> Tensor:
    return torch.log1p(SHARPNESS * pairs)


def _terms(log_pairs: Tensor, counts: list[Tensor], similar: list[Tensor]) -> list[Tensor]:
    of_all, *of_seasons = (torch.log1p(count) for count in counts)
    return [log_pairs, of_all, *similar, *of_seasons]


def _largest(matrix: csr_matrix, count: int, rows: int) -> Neighbours:
    """Return the `count` largest entries of each row, padded with empty rows up to `rows`."""
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


def _similar_titles(titles: list[str], rows: range, count: int, total: int) -> Neighbours:
    """Return the `count` most similar titles of a domain to each of its items `rows`.

    Similarity is the cosine of TF-IDF vectors over four-character grams within a word. Grams that more than a
    twentieth of the titles contain are left out, and so are those of a single title.
    """
    # Imported here because it takes half a second and 60 MB, which only a model with a memory needs.
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = max(2, len(titles) // 20)
    grams = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), min_df=2, max_df=common, sublinear_tf=True, dtype=np.float32
    )
    try:
        vectors = grams.fit_transform(titles)
    except ValueError:  # No two titles share a gram.
        vectors = csr_matrix((len(titles), 1), dtype=np.float32)
    return _nearest(lambda part: torch.from_numpy((vectors[part] @ vectors.T).toarray()), rows, count, total)


def _similar_texts(vectors: Tensor, rows: range, count: int, total: int) -> Neighbours:
    """Return the `count` most similar texts by the cosine of unit vectors [N_d, d_L]."""
    return _nearest(lambda part: vectors[part] @ vectors.T, rows, count, total)


def _nearest(cosines: Callable[[slice], Tensor], rows: range, count: int, total: int) -> Neighbours:
    """Return the `count` items of largest positive cosine to each of `rows`, itself included.

    `cosines` maps a slice of n items to their cosines [n, N_d].
    """
    size = len(rows)
    step = max(1, CELLS // max(1, size))
    largest = [cosines(slice(at, at + step)).topk(min(count, size), dim=1) for at in range(0, size, step)]
    weights = torch.cat([best.values for best in largest]) if largest else torch.zeros(0, 0)
    columns = torch.cat([best.indices for best in largest]) if largest else torch.zeros(0, 0, dtype=torch.long)
    out = Neighbours(
        torch.full((total, count), size, device=columns.device), torch.zeros(total, count, device=weights.device)
    )
    of_domain = slice(rows.start, rows.stop)
    out.columns[of_domain, : columns.shape[1]] = torch.where(weights > 0, columns, size)
    out.weights[of_domain, : weights.shape[1]] = weights.clamp_min(0)
    return out
