"""One scoring pass over all targets: their rank under every protocol, and what would be recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edt_cli.config import UserError
from edt_cli.data.dataset import Domains, Sequences
from edt_cli.evaluation.candidates import chunks
from edt_cli.evaluation.questions import Questions, only_domain
from edt_cli.models.batch import DeviceSequences, ItemTable, last_state
from edt_cli.models.layers import linear
from edt_cli.models.memory import Memory
from edt_cli.models.sequential import SequentialModel

CHUNK = 512
ENCODE = 1024
COUNTED = 1 << 24
"""Above this float32 cannot count in ones."""


class Diverged(UserError):
    """A loss or a score is no number."""


class Scorer(Protocol):
    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """[len(rows), N_d]: the score of every catalogue item of `domain`, in a tensor of the caller's own."""
        ...


@dataclass(frozen=True)
class InnerProduct:
    """states: [n, D], a row a question; items: [1 + N, D]."""

    domains: Domains
    states: Tensor
    items: Tensor

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        items = self.domains.range(domain)
        return linear(self.states[rows.to(self.states.device)], self.items[items.start : items.stop])


@dataclass(frozen=True)
class Recalled:
    """`vectors` and, added to it, what a memory says of the newest items of each history: windows long [n, W]."""

    vectors: InnerProduct
    memory: Memory
    windows: Tensor

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        windows = self.windows[rows.to(self.windows.device)]
        with torch.no_grad():
            return self.vectors.scores(rows, domain).add_(self.memory.of_items(windows, domain))


@dataclass(frozen=True)
class Together:
    """An ensemble: the sum of several systems' scores, each on the scale of its own spread over a user's items."""

    scorers: Sequence[Scorer]

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        found = [scorer.scores(rows, domain) for scorer in self.scorers]
        return torch.stack([one / one.std(1, keepdim=True).clamp_min(1e-12) for one in found]).sum(0)


def all_item_vectors(model: SequentialModel, table: ItemTable) -> Tensor:
    """[1 + N, D], the catalogue's."""
    with torch.inference_mode():
        return model.encode_items(torch.arange(table.catalogue + 1, device=table.domain_of.device))


def model_scorer(model: SequentialModel, table: ItemTable, inputs: Sequences, asked: np.ndarray) -> Scorer:
    """A trained model's scores for rows of `inputs`, each asked for the domain asked[row].

    A `single` model sees that domain's items only; every model as many of the newest as it has learned from.
    """
    model.eval()
    if model.settings.sequence == "single":
        inputs = only_domain(inputs, asked, table.domain_of.cpu().numpy())
    sequences = DeviceSequences(inputs, table, model.reach)
    domains = torch.from_numpy(asked).to(table.domain_of.device)
    states = torch.zeros(len(inputs), model.width, device=table.domain_of.device)
    windows = no_windows(model, len(inputs))
    with torch.inference_mode():
        for rows in sequences.by_length(ENCODE):
            batch = sequences.batch(rows, domains[rows])
            states[rows] = model.encode_last(batch).float()
            if model.memory is not None:
                windows[rows] = last_state(model.memory.windows(batch), batch.lengths)
    vectors = InnerProduct(table.domains, states, all_item_vectors(model, table))
    return vectors if model.memory is None else Recalled(vectors, model.memory, windows)


def no_windows(model: SequentialModel, rows: int) -> Tensor:
    """long [rows, W] of zeros, to be filled with what the model's memory looks at; W = 0 without a memory."""
    width = 0 if model.memory is None else model.memory.width
    return torch.zeros(rows, width, dtype=torch.long, device=next(model.parameters()).device)


@dataclass(frozen=True)
class Ranks:
    """full, sampled: float64 [n], 1 is best, half steps at ties (sampled: None if not asked for).
    top: int64 [n, k], the item numbers that would be recommended, best first, 0 where the domain has fewer."""

    full: np.ndarray
    sampled: np.ndarray | None
    top: np.ndarray


def rank(
    scorer: Scorer,
    asked: Questions,
    *,
    candidates: np.ndarray | None = None,
    top: int = 0,
) -> Ranks:
    """Rank = 1 + candidates that score higher + half of those that score the same.

    Candidates: `full`, every catalogue item of the target's domain but those that `asked` excludes; `sampled`, the
    columns `candidates` [n, N]. Errors: Diverged for a score that is no number.
    """
    full = np.zeros(len(asked))
    sampled = None if candidates is None else np.zeros(len(asked))
    best = np.zeros((len(asked), top), dtype=np.int64)
    for domain in range(len(asked.domains)):
        start = asked.domains.range(domain).start
        for rows in chunks(np.flatnonzero(asked.targets.domains == domain), CHUNK):
            scores = scorer.scores(torch.from_numpy(rows), domain)
            if not torch.isfinite(scores.sum()):
                raise Diverged(
                    "a score is no number: training diverged (lower the learning rate), or the weights are damaged"
                )
            columns = torch.from_numpy(asked.target_columns[rows]).to(scores.device)
            own = scores.gather(1, columns[:, None])
            if sampled is not None and candidates is not None:
                drawn = torch.from_numpy(candidates[rows]).long().to(scores.device)
                others = scores.gather(1, drawn.clamp_min(0)).masked_fill(drawn < 0, float("-inf"))
                sampled[rows] = _rank(others, own).cpu().numpy()
            place, column = (torch.from_numpy(a).to(scores.device) for a in asked.excluded(rows, domain))
            scores[place, column] = float("-inf")
            if top:
                values, order = scores.topk(min(top, scores.shape[1]), dim=1)
                items = torch.where(torch.isfinite(values), order + start, 0)
                best[rows, : items.shape[1]] = items.cpu().numpy()
            # The target stands among `scores` and ties with itself: half a step too much.
            full[rows] = (_rank(scores, own) - 0.5).cpu().numpy()
    return Ranks(full, sampled, best)


def _rank(scores: Tensor, own: Tensor) -> Tensor:
    """With N scores, higher + equal / 2 = (N + higher - lower) / 2: one pass, which uses `scores` up."""
    count = scores.shape[1]
    exact = torch.float32 if count < COUNTED else torch.float64
    return 1.0 + (count + scores.sub_(own).sign_().sum(1, dtype=exact).double()) / 2
