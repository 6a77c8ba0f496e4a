"""The model contract: vectors whose inner product is the score, and how they are learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edt_cli.config import Section, Settings
from edt_cli.data.dataset import Sequences
from edt_cli.models.batch import Batch, DeviceSequences, last_state, only_domain
from edt_cli.models.batches import epoch_batches
from edt_cli.models.encoders import make_encoder
from edt_cli.models.inputs import ModelInputs, NoOptions
from edt_cli.models.losses import mean
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.phases import PRETRAINING, Phase, seeded
from edt_cli.models.positions import Objective, Positions, had
from edt_cli.models.scorers import InnerProduct, Scorer, vector_scorer
from edt_cli.models.side_score import SideContext, SideScore

ENCODE = 1024
"""Histories that are encoded at a time."""
SIDE_PACE = 20.0
"""Of a side score's weights: they stand for scales, not for directions, and go their own way fast."""


class SequentialModel(nn.Module):
    """The contract: `encode_positions` and `encode_items` give vectors whose inner product is the score;
    `side_score`, where there is one, adds to it. `phases` says how it is trained: in one, unless it says otherwise.
    A system gives `encode_positions`, and whatever else differs."""

    Options: type[Section] = NoOptions
    """The settings that a system has to itself."""

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        """Before anything is made. Errors: UsageError for settings that do not go together in this system."""

    def __init__(self, given: ModelInputs) -> None:
        super().__init__()
        s = given.model
        self.settings = s
        longest = s.max_length if given.sequences is None else int(given.sequences.lengths.max(initial=0))
        self.context_length = max(1, min(s.max_length, longest) - 1)
        """How many of a history's newest items are looked at when something is asked: as many as come before a
        target in training, where a row's last item is one. Positions beyond have learned nothing."""
        self.table = given.table
        self.domains = len(given.table.domains)
        self.register_buffer("domain_of", given.table.domain_of, persistent=False)
        self.encoder = make_encoder(given.table, s)
        self.side_score: SideScore | None = None

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
        return Positions(
            states=states,
            positive=positive,
            targets=targets[places],
            had=had(batch, places),
            side=self.side_context(batch, places),
        )

    def side_context(self, batch: Batch, places: Tensor) -> SideContext | None:
        """The side score's at the P `places` (bool [B, L], or what else finds P of the positions)."""
        if self.side_score is None:
            return None
        return SideContext(self.side_score, self.side_score.context(batch)[places])

    def positions_to_learn(self, batch: Batch) -> Positions:
        """`training_positions` where nobody asks for the last states."""
        return self.training_positions(batch)[0]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Named terms, weighted already; their sum is minimised."""
        return {"next_item": mean(objective(self.positions_to_learn(batch), self.encode_items))}

    def prepare_batch(self, batch: Batch) -> Batch:
        """A batch of training with whatever the model adds to it by its own choice."""
        return batch

    def phases(self, given: ModelInputs) -> list[Phase]:
        """How it is trained, one after the other; each starts from the best weights of those before it."""
        return [NextItemPhase(self, given)]

    def remarks(self) -> list[str]:
        """What its user should know before training."""
        return [] if self.side_score is None else self.side_score.remarks()

    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        """What the loop's AdamW learns: `params`, `pace` (times the learning rate) and `weight_decay`."""
        side = [] if self.side_score is None else [p for p in self.side_score.parameters() if p.requires_grad]
        apart = {id(parameter) for parameter in (*side, *self.own_parameters())}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups = [{"params": rest, "pace": 1.0, "weight_decay": decay}]
        return groups + ([{"params": side, "pace": SIDE_PACE, "weight_decay": 0.0}] if side else [])

    def own_parameters(self) -> list[nn.Parameter]:
        """Those that are learned by `own_loss` alone, in a step of their own before each shared one."""
        return []

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Of `own_parameters`; None where there are none."""
        return None

    def own_loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """What `own_optimizer` minimises, in named terms."""
        return {}

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """[1 + N, D], the catalogue's."""
        return self.encode_items(torch.arange(self.table.catalogue + 1, device=self.domain_of.device))

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """The scores for each row of `inputs`, asked for the domain domains[row] [n].

        A `single` model sees that domain's items only; every model as many of the newest as it has learned from.
        """
        self.eval()
        if self.settings.sequence == "single":
            inputs = only_domain(inputs, domains, self.domain_of.cpu().numpy())
        sequences = DeviceSequences(inputs, self.table, self.context_length)
        asked = torch.from_numpy(domains).to(self.domain_of.device)
        states = torch.zeros(len(inputs), self.width, device=self.domain_of.device)
        side = self.no_context(len(inputs))
        with torch.inference_mode():
            for rows in sequences.by_length(ENCODE):
                batch = sequences.batch(rows, asked[rows])
                states[rows] = self.encode_last(batch).float()
                self.put_context(side, rows, batch)
            vectors = InnerProduct(self.table.domains, states, self.item_vectors())
        return vector_scorer(vectors, side)

    def no_context(self, rows: int) -> SideContext | None:
        """Of the side score, for `rows` queries, to be filled by `put_context`."""
        if self.side_score is None:
            return None
        empty = torch.zeros(rows, self.side_score.width, dtype=torch.long, device=self.domain_of.device)
        return SideContext(self.side_score, empty)

    def put_context(self, side: SideContext | None, rows: Tensor, batch: Batch) -> None:
        """The context after each row's last item, at `rows` of `side`."""
        if side is not None:
            side.context[rows] = last_state(side.side_score.context(batch), batch.lengths)


class NextItemPhase(Phase):
    """The model's `loss`, over whole sequences: eq. 9 and 14 for LLM-EDT."""

    model: SequentialModel

    def __init__(
        self,
        model: SequentialModel,
        given: ModelInputs,
        name: str = PRETRAINING,
        enter: Callable[[], object] | None = None,
    ) -> None:
        """`enter`: in place of doing nothing."""
        s = given.training
        self.name, self.model, self.own = name, model, model.own_optimizer()
        self.sequences = given.on_device
        self.size, self.lr, self.epochs = s.batch, s.lr, s.epochs
        self.min_steps, self.validate_steps = s.min_steps, s.validate_steps
        self.steps_per_epoch = math.ceil(int((self.sequences.lengths > 0).sum()) / s.batch)
        self.order, drawn = seeded(s.seed, given.table.domain_of.device)
        self.generators = [self.order, drawn]
        self.objective = NextItem(s, Negatives.over(given.table, drawn))
        self._enter = enter

    def enter(self) -> None:
        if self._enter is not None:
            self._enter()

    def batches(self) -> Iterator[Batch]:
        for rows in epoch_batches(self.sequences.lengths, self.size, self.order):
            yield self.model.prepare_batch(self.sequences.batch(rows))

    def own_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.own_loss(batch, self.objective)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch, self.objective)

    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        return self.model.parameter_groups(decay)

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        return self.model.scorer(inputs, domains)
