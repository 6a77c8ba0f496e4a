"""The model contract, and the plain systems that need no more than it: SASRec, GRU4Rec, BERT4Rec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from edt_cli.config import Section
from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.encoders import make_encoder
from edt_cli.models.given import Given, NoOptions
from edt_cli.models.losses import mean
from edt_cli.models.memory import Memory


@dataclass(frozen=True)
class Positions:
    """P positions to learn from. states: [P, D]; positive: [P, D], the vector of each target; targets: long [P].

    had: long [P, L], everything that the position's user has in training, None where that is not at hand;
    windows: long [P, W], what a memory looks at.
    """

    states: Tensor
    positive: Tensor
    targets: Tensor
    had: Tensor | None = None
    windows: Tensor | None = None


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
        self.domains = len(given.table.domains)
        self.register_buffer("domain_of", given.table.domain_of, persistent=False)
        self.encoder = make_encoder(s.encoder, given.table, s.hidden)
        self.memory = Memory(given.view, given.table, s) if s.memory and given.view is not None else None

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
        windows = None if self.memory is None else self.memory.windows(batch.items)[:, :-1][real]
        return Positions(
            states[:, :-1][real], x[:, 1:][real], batch.targets[:, :-1][real], had(batch, real), windows
        )

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Named terms, weighted already; their sum is minimised."""
        at, _ = self.training_positions(batch)
        return {"next_item": mean(objective(at, self.encode_items, self.memory))}


class PlainModel(SequentialModel):
    """A backbone over the items as they come: SASRec, GRU4Rec, BERT4Rec."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.backbone = make_backbone(given.model)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self.backbone(self.encode_items(batch.items), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        return self.backbone.last(self.encode_items(batch.items), batch.lengths)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """With a causal backbone every position that has a next item; with BERT4Rec the masked ones."""
        x = self.encode_items(batch.items)
        if isinstance(self.backbone, BERT4Rec):
            masked = self._mask(batch)
            states = self.backbone.restore(x, batch.lengths, masked)
            at = Positions(states[masked], x[masked], batch.items[masked], had(batch, masked))
            return at, self.backbone.last(x, batch.lengths)
        states = self.backbone(x, batch.lengths)
        return self.before_targets(batch, x, states), last_state(states, batch.lengths)

    def _mask(self, batch: Batch) -> Tensor:
        """A share of each row's items, and the last one of rows where chance took none."""
        real = batch.items > 0
        masked = (torch.rand(batch.items.shape, device=batch.items.device) < self.settings.mask_share) & real
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        none = ~masked.any(1, keepdim=True)
        return masked | (none & (steps == batch.lengths[:, None] - 1))


def had(batch: Batch, positions: Tensor) -> Tensor:
    """long [P, L]: the items of the row of each true element of `positions` (bool [B, L])."""
    return batch.items[torch.nonzero(positions)[:, 0]]
