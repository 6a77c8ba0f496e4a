"""The model contract: vectors whose inner product is the score, and how they are trained."""

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
from edt_cli.models.phase_names import PRETRAINING
from edt_cli.models.phases import Phase, seeded
from edt_cli.models.positions import Objective, Positions, seen_items
from edt_cli.models.scorers import InnerProduct, Scorer, vector_scorer
from edt_cli.models.side_score import SideContext, SideScore

ENCODE = 1024
"""Number of histories encoded at once."""
SIDE_PACE = 20.0
"""Factor on the learning rate for the weights of a side score, which are scales, not directions, and move fast."""


class SequentialModel(nn.Module):
    """Base class of all trained systems.

    The score of an item is the inner product of `encode_positions` and `encode_items`; `side_score`, if set, is
    added to it. A system overrides `encode_positions`, and whatever else differs. `phases` lists its training
    phases, by default a single one.

    Attributes:
        settings: The section `[model]` of the run.
        encoder: Module of the item vectors, by the setting `model.encoder`.
        domains: Number of domains.
        domain_of: long [1 + N + P], the domain of each item, 0 for none.
        context_length: Number of a history's newest items that are read at inference.
        side_score: What is added to the inner product, or None.
    """

    Options: type[Section] = NoOptions
    """Settings of this system alone, the section `[options]` of a preset."""

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        """Validate the settings of a run before anything is computed.

        Raises:
            UsageError: If this system does not support the combination of settings.
        """

    @classmethod
    def limit_epochs(cls, options: Section, epochs: int) -> dict[str, int]:
        """Return the options that keep phases with an option of their own for it within so many epochs."""
        return {}

    def __init__(self, given: ModelInputs) -> None:
        super().__init__()
        s = given.model
        self.settings = s
        longest = s.max_length if given.sequences is None else int(given.sequences.lengths.max(initial=0))
        self.context_length = max(1, min(s.max_length, longest) - 1)
        """Number of a history's newest items that are read at inference.

        As many as precede a target in training, where the last item of a row is only a target. Later positions are
        untrained.
        """
        self.table = given.table
        self.domains = len(given.table.domains)
        self.register_buffer("domain_of", given.table.domain_of, persistent=False)
        self.encoder = make_encoder(given.table, s)
        self.side_score: SideScore | None = None
        self._kept_vectors: Tensor | None = None

    domain_of: Tensor

    @property
    def width(self) -> int:
        """D, the size of state and item vectors."""
        return self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        """Return the vectors [..., D] of item ids (long [...])."""
        return self.encoder(ids)

    def encode_positions(self, batch: Batch) -> Tensor:
        """Return the states [B, L, D] that score the next item at each position, in the domain `batch.domains`.

        State j depends only on the items up to j and on the domain at position j.
        """
        raise NotImplementedError

    def encode_last(self, batch: Batch) -> Tensor:
        """Return `encode_positions` at each row's last item, [B, D]; zero for a row without items."""
        return last_state(self.encode_positions(batch), batch.lengths)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """Return the positions that have a next item, and the last state [B, D] of each row."""
        states = self.encode_positions(batch)
        at = self.before_targets(batch, self.encode_items(batch.items), states)
        return at, last_state(states, batch.lengths)

    def before_targets(self, batch: Batch, x: Tensor, states: Tensor) -> Positions:
        """Return the positions that have a next item, given item vectors `x` and states, both [B, L, D]."""
        real = batch.targets[:, :-1] > 0
        return self.select_positions(batch, batch.targets > 0, states[:, :-1][real], x[:, 1:][real], batch.targets)

    def select_positions(
        self, batch: Batch, mask: Tensor, states: Tensor, positive: Tensor, targets: Tensor
    ) -> Positions:
        """Return the P training positions at which `mask` is true.

        Args:
            batch: The batch that the positions belong to.
            mask: Bool [B, L], with P true elements.
            states: [P, D], the state at each of them.
            positive: [P, D], the vector of the target of each.
            targets: Long [B, L], the target at every position of the batch.
        """
        return Positions(
            states=states,
            positive=positive,
            targets=targets[mask],
            seen=seen_items(batch, mask),
            side=self.side_context(batch, mask),
        )

    def side_context(self, batch: Batch, mask: Tensor) -> SideContext | None:
        """Return the context of the side score at P positions: those true in `mask` (bool [B, L], or any index)."""
        if self.side_score is None:
            return None
        return SideContext(self.side_score, self.side_score.context(batch)[mask])

    def positions_to_learn(self, batch: Batch) -> Positions:
        """Return the positions of `training_positions`, without the last states."""
        return self.training_positions(batch)[0]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the terms of the loss by name, already weighted; their sum is minimised."""
        return {"next_item": mean(objective(self.positions_to_learn(batch), self.encode_items))}

    def prepare_batch(self, batch: Batch) -> Batch:
        """Return the training batch with whatever the model adds to it, for example random draws."""
        return batch

    def phases(self, given: ModelInputs) -> list[Phase]:
        """Return the training phases in order; each starts from the best weights of the phases before it."""
        return [NextItemPhase(self, given)]

    def remarks(self) -> list[str]:
        """Return messages that are shown to the user before training."""
        return [] if self.side_score is None else self.side_score.remarks()

    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        """Return the parameter groups of the training loop's AdamW.

        Each has `params`, `pace` (a factor on the learning rate) and `weight_decay`. `own_parameters` are left out.
        """
        side = [] if self.side_score is None else [p for p in self.side_score.parameters() if p.requires_grad]
        apart = {id(parameter) for parameter in (*side, *self.own_parameters())}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups = [{"params": rest, "pace": 1.0, "weight_decay": decay}]
        return groups + ([{"params": side, "pace": SIDE_PACE, "weight_decay": 0.0}] if side else [])

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only `own_loss` trains, in a separate step before each step on `loss`."""
        return []

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimiser of `own_parameters`, or None if there are none."""
        return None

    def own_loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the terms by name whose sum `own_optimizer` minimises."""
        return {}

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """Return the vectors of the catalogue, [1 + N, D]; row 0 is padding."""
        if self._kept_vectors is not None:
            return self._kept_vectors
        return self.encode_items(torch.arange(self.table.catalogue + 1, device=self.domain_of.device))

    def keep_item_vectors(self) -> None:
        """Compute the item vectors now, once: for a model that is trained no more."""
        self._kept_vectors = self.item_vectors()

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """Return a scorer for the n histories `inputs`, each queried in the domain domains[row].

        A `single` model sees only the items of that domain. Every model reads the `context_length` newest items.
        """
        self.eval()
        if self.settings.sequence == "single":
            inputs = only_domain(inputs, domains, self.domain_of.cpu().numpy())
        sequences = DeviceSequences(inputs, self.table, self.context_length)
        queried = torch.from_numpy(domains).to(self.domain_of.device)
        states = torch.zeros(len(inputs), self.width, device=self.domain_of.device)
        side = self.no_context(len(inputs))
        with torch.inference_mode():
            for rows in sequences.by_length(ENCODE):
                batch = sequences.batch(rows, queried[rows])
                states[rows] = self.encode_last(batch).float()
                self.put_context(side, rows, batch)
            vectors = InnerProduct(self.table.domains, states, self.item_vectors())
        return vector_scorer(vectors, side)

    def no_context(self, rows: int) -> SideContext | None:
        """Return an empty side-score context for `rows` queries, to be filled by `put_context`."""
        if self.side_score is None:
            return None
        empty = torch.zeros(rows, self.side_score.width, dtype=torch.long, device=self.domain_of.device)
        return SideContext(self.side_score, empty)

    def put_context(self, side: SideContext | None, rows: Tensor, batch: Batch) -> None:
        """Write the context after each row's last item into `side`, at `rows`."""
        if side is not None:
            side.context[rows] = last_state(side.side_score.context(batch), batch.lengths)


class NextItemPhase(Phase):
    """Training on the model's `loss` over whole sequences: eq. 9 and 14 for LLM-EDT.

    AdamW learns the parameters that require a gradient; a phase that freezes some does so in `enter`.
    """

    model: SequentialModel

    def __init__(
        self,
        model: SequentialModel,
        given: ModelInputs,
        name: str = PRETRAINING,
        enter: Callable[[], object] | None = None,
        lr: float | None = None,
    ) -> None:
        """Create the phase.

        Args:
            model: The model that is trained.
            given: What it was made of.
            name: Unique within the system.
            enter: Called when the phase begins, and when it is only loaded.
            lr: Its learning rate. Default: that of `[training]`, like all else.
        """
        s = given.training
        self.name, self.model, self.own = name, model, model.own_optimizer()
        self.sequences = given.on_device
        self.size, self.lr, self.epochs = s.batch, lr or s.lr, s.epochs
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
