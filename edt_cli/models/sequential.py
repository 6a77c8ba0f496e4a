"""The model contract, and the plain systems that need no more than it: SASRec, GRU4Rec, BERT4Rec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import Section
from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.encoders import IdEncoder, make_encoder
from edt_cli.models.given import Given, NoOptions
from edt_cli.models.losses import mean
from edt_cli.models.memory import Memory

ONLY_LAST = 1 / 11
"""Of the rows that BERT4Rec trains on: their last item alone is masked."""


@dataclass(frozen=True)
class Positions:
    """P positions to learn from. states: [P, D]; positive: [P, D], the vector of each target; targets: long [P].

    had: long [P, L], what stands in the position's row of the batch, None where that is not at hand;
    windows: long [P, W], what a memory looks at (`Memory.windows`).
    """

    states: Tensor
    positive: Tensor
    targets: Tensor
    had: Tensor | None = None
    windows: Tensor | None = None

    def among(self, rows: Tensor, states: Tensor) -> Positions:
        """Those at `rows` (an index of the P), with other states for them."""
        had, windows = (None if kept is None else kept[rows] for kept in (self.had, self.windows))
        return Positions(states, self.positive[rows], self.targets[rows], had, windows)


class Objective(Protocol):
    """The next-item loss: P positions -> losses [P]."""

    def __call__(
        self, at: Positions, encode_items: Callable[[Tensor], Tensor], memory: Memory | None = None
    ) -> Tensor: ...


class SequentialModel(nn.Module):
    """The contract: `encode_positions` and `encode_items` give vectors whose inner product is the score; `memory`,
    where there is one, adds to it. A system gives `encode_positions`, and whatever else differs."""

    Options: type[Section] = NoOptions
    """The settings that a system has to itself."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        s = given.model
        self.settings = s
        longest = s.max_length if given.sequences is None else int(given.sequences.lengths.max(initial=0))
        self.reach = max(1, min(s.max_length, longest) - 1)
        """How many of a history's newest items are looked at when something is asked: as many as come before a
        target in training, where a row's last item is one. Positions beyond have learned nothing."""
        self.domains = len(given.table.domains)
        self.register_buffer("domain_of", given.table.domain_of, persistent=False)
        self.encoder = make_encoder(given.table, s)
        self.memory = Memory(given.view, given.table, s) if s.memory and given.view is not None else None
        self.before: SequentialModel | None = None
        """A model that is trained before this one, in the same loop."""

    domain_of: Tensor

    @property
    def width(self) -> int:
        """D of the contract's vectors."""
        return self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        """long [...] -> [..., D]."""
        return self.encoder(ids)

    def encode_positions(self, batch: Batch) -> Tensor:
        """[B, L, D]: the state that scores the next item at each position, in the domain `batch.domains`.

        Output j depends on items up to j and on that one domain, nothing else.
        """
        raise NotImplementedError

    def encode_last(self, batch: Batch) -> Tensor:
        """[B, D]: `encode_positions` at each row's last item, zero for a row without items."""
        return last_state(self.encode_positions(batch), batch.lengths)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """What to learn from: every position that has a next item; and each row's last state [B, D]."""
        states = self.encode_positions(batch)
        at = self.before_targets(batch, self.encode_items(batch.items), states)
        return at, last_state(states, batch.lengths)

    def before_targets(self, batch: Batch, x: Tensor, states: Tensor) -> Positions:
        """Every position that has a next item, from item vectors and states [B, L, D]."""
        real = batch.targets[:, :-1] > 0
        return self.at_places(batch, batch.targets > 0, states[:, :-1][real], x[:, 1:][real], batch.targets)

    def at_places(
        self, batch: Batch, places: Tensor, states: Tensor, positive: Tensor, targets: Tensor
    ) -> Positions:
        """The P `places` (bool [B, L]) with their states and vectors of targets [P, D]; targets: [B, L]."""
        windows = None if self.memory is None else self.memory.windows(batch)[places]
        return Positions(states, positive, targets[places], had(batch, places), windows)

    def positions_to_learn(self, batch: Batch) -> Positions:
        """`training_positions` where nobody asks for the last states."""
        return self.training_positions(batch)[0]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Named terms, weighted already; their sum is minimised."""
        return {"next_item": mean(objective(self.positions_to_learn(batch), self.encode_items, self.memory))}

    def extended(self, batch: Batch) -> Batch:
        """A batch of training with whatever the model adds to it by its own choice."""
        return batch

    def start(self) -> None:
        """Called when `before` is trained, or known to be: it stays as it is, unless a model starts from it."""
        if self.before is not None:
            self.before.requires_grad_(False)

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Of parameters that are learned by `own_loss` alone, in a step of their own before each shared one."""
        return None

    def own_loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """What `own_optimizer` minimises, in named terms."""
        return {}


class PlainModel(SequentialModel):
    """A backbone over the items as they come: SASRec, whose score is the inner product and nothing else."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.backbone = make_backbone(given.model)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self.backbone(self.embed(batch), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        return self.backbone.last(self.embed(batch), batch.lengths)

    def embed(self, batch: Batch) -> Tensor:
        """[B, L, D]: what the backbone sees of a batch's items."""
        return self.encoder(batch.items)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        x = self.embed(batch)
        if isinstance(self.backbone, BERT4Rec):
            return self.positions_to_learn(batch), self.backbone.last(x, batch.lengths)
        states = self.backbone(x, batch.lengths)
        return self.before_targets(batch, x, states), last_state(states, batch.lengths)

    def positions_to_learn(self, batch: Batch) -> Positions:
        """With a causal backbone every position that has a next item; with BERT4Rec the masked ones."""
        if not isinstance(self.backbone, BERT4Rec):
            return super().positions_to_learn(batch)
        x, masked = self.embed(batch), self._mask(batch)
        states = self.backbone.restore(x, batch.lengths, masked)
        return Positions(states[masked], x[masked], batch.items[masked], had(batch, masked))

    def _mask(self, batch: Batch) -> Tensor:
        """A share of each row's items, and the last one of rows where chance took none. One row in eleven has its
        last item masked and no other, as it is asked for (BERT4Rec, section 3.6; the share is of its code)."""
        shape, device = batch.items.shape, batch.items.device
        real = batch.items > 0 if batch.inserted is None else (batch.items > 0) & ~batch.inserted
        masked = (torch.rand(shape, device=device) < self.settings.mask_share) & real
        last = torch.arange(shape[1], device=device) == batch.lengths[:, None] - 1
        only_last = (torch.rand(len(last), 1, device=device) < ONLY_LAST) | ~masked.any(1, keepdim=True)
        return torch.where(only_last, last, masked)


class BiasedModel(PlainModel):
    """A score has a bias for each item, as the output layers of GRU4Rec and BERT4Rec have."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.bias = IdEncoder(given.table, 1)

    @property
    def width(self) -> int:
        return self.settings.hidden + 1

    def encode_items(self, ids: Tensor) -> Tensor:
        return torch.cat([self.encoder(ids), self.bias(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        return F.pad(super().encode_positions(batch), (0, 1), value=1.0)

    def encode_last(self, batch: Batch) -> Tensor:
        return torch.cat([super().encode_last(batch), (batch.lengths > 0).unsqueeze(1)], -1)

    def positions_to_learn(self, batch: Batch) -> Positions:
        at = super().positions_to_learn(batch)
        positive = torch.cat([at.positive, self.bias(at.targets)], -1)
        return replace(at, states=F.pad(at.states, (0, 1), value=1.0), positive=positive)


def had(batch: Batch, positions: Tensor) -> Tensor:
    """long [P, L]: the items of the row of each true element of `positions` (bool [B, L])."""
    return batch.items[torch.nonzero(positions)[:, 0]]
