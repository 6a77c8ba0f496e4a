"""Domain fine-tuning (section 3.3.2): the domain threads on top of the frozen model.

The frozen states are computed once, so that an epoch costs no more than the adapters.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.data.dataset import Sequences
from edt_cli.models.batch import DeviceSequences
from edt_cli.models.batches import epoch_batches
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.losses import mean
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.phases import Phase, seeded
from edt_cli.models.positions import Positions
from edt_cli.models.scorers import InnerProduct, Scorer, vector_scorer
from edt_cli.models.sequential import ENCODE
from edt_cli.models.side_score import SideContext
from edt_cli.models.threads import ThreadedModel

KEPT_BYTES = 1 << 29
"""Frozen states larger than this many bytes are stored in a file."""


@dataclass(frozen=True)
class FrozenStates:
    """Outputs of the frozen backbone at P training positions, sorted by row.

    Attributes:
        global_states: u, [P, D].
        domain_states: h^d, [P, D].
        present: Bool [P], whether h^d exists.
        targets: Long [P].
        side: The context of the side score, if there is one.
        starts: Long [U + 1]; the positions of row i are starts[i] to starts[i + 1].
    """

    global_states: Tensor
    domain_states: Tensor
    present: Tensor
    targets: Tensor
    side: SideContext | None
    starts: Tensor


def frozen_states(model: ThreadedModel, sequences: DeviceSequences, folder: Path | None = None) -> FrozenStates:
    """Compute the frozen states of all training positions (section 3.3.2).

    This is done once for all epochs of fine-tuning. States that are too large for memory are stored in a temporary
    file in `folder`, which is deleted with the process, and are read from there as needed.
    """
    device = sequences.lengths.device
    starts = F.pad(sequences.targets().cumsum(0), (1, 0))
    total, hidden = int(starts[-1]), model.settings.hidden
    global_states, domain_states = (_allocate(total, hidden, device, folder) for _ in range(2))
    present = torch.empty(total, dtype=torch.bool, device=device)
    targets = torch.empty(total, dtype=torch.long, device=device)
    side = model.no_context(total)
    model.eval()
    with torch.no_grad():
        for rows in sequences.by_length(ENCODE):
            batch = sequences.batch(rows)
            real = batch.targets > 0
            index = (starts[rows, None] + real.cumsum(1) - 1)[real]
            x = model.encode_items(batch.items)
            states, exists = model.domain_positions(batch, x)
            _put(global_states, index, model.backbone(x, batch.lengths)[real])
            _put(domain_states, index, states[real])
            present[index], targets[index] = exists[real], batch.targets[real]
            if side is not None:
                side.context[index] = side.side_score.context(batch)[real]
    return FrozenStates(
        global_states=global_states,
        domain_states=domain_states,
        present=present,
        targets=targets,
        side=side,
        starts=starts,
    )


def _allocate(rows: int, hidden: int, device: torch.device, folder: Path | None) -> Tensor:
    if folder is None or rows * hidden * 4 <= KEPT_BYTES:
        return torch.empty(rows, hidden, device=device)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, hidden)))


def _put(states: Tensor, index: Tensor, values: Tensor) -> None:
    states[index.to(states.device)] = values.to(states.device)


def _take(states: Tensor, index: Tensor) -> Tensor:
    return states[index.to(states.device)].to(index.device)


class FineTuning(Phase):
    """Eq. 12 and 15: training of the domain adapters alone, without dropout."""

    model: ThreadedModel
    name = "fine-tuning"
    own = None
    dropout = False

    def __init__(self, model: ThreadedModel, given: ModelInputs) -> None:
        s, o = given.training, model.options
        self.model, self.given = model, given
        self.sequences = given.on_device
        self.size, self.lr, self.epochs = s.batch, o.finetune_lr, o.finetune_epochs
        self.min_steps, self.validate_steps = o.finetune_min_steps, o.finetune_validate_steps
        self.counts = self.sequences.targets()
        self.steps_per_epoch = math.ceil(int((self.counts > 0).sum()) / s.batch)
        self.domain_of = given.table.domain_of
        self.order, drawn = seeded(s.seed + 1, self.domain_of.device)
        self.generators = [self.order, drawn]
        self.objective = NextItem(s, Negatives.over(given.table, drawn))
        self._queries: tuple[Sequences, np.ndarray, FrozenQueries] | None = None

    def enter(self) -> None:
        self.model.freeze_global()

    @cached_property
    def frozen(self) -> FrozenStates:
        return frozen_states(self.model, self.sequences, self.given.folder)

    @cached_property
    @torch.no_grad()
    def items(self) -> Tensor:
        """Vectors of all items, [1 + N + P, D]."""
        return self.model.encode_items(torch.arange(len(self.domain_of), device=self.domain_of.device))

    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        return self.model.parameter_groups(decay)

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        if self._queries is None or self._queries[0] is not inputs or self._queries[1] is not domains:
            self._queries = inputs, domains, FrozenQueries.of(self.model, inputs, domains)
        return self._queries[2].scorer(self.model)

    def batches(self) -> Iterator[Tensor]:
        """Yield the training positions of the users of each batch, long [P]."""
        for rows in epoch_batches(self.counts, self.size, self.order):
            counts = self.counts[rows]
            first = torch.repeat_interleave(self.frozen.starts[rows] - (counts.cumsum(0) - counts), counts)
            yield first + torch.arange(len(first), device=first.device)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        f = self.frozen
        targets = f.targets[batch]
        domains = self.domain_of[targets]
        domain_parts = (_take(f.domain_states, batch), f.present[batch], domains)
        states = self.model.add_threads(_take(f.global_states, batch), *domain_parts)
        side = None if f.side is None else f.side[batch]
        at = Positions(
            states=states, positive=self.items[targets], targets=targets, seen=self._seen(batch), side=side
        )
        losses = self.objective(at, lambda ids: self.items[ids])
        by_domain = [losses[domains == domain] for domain in range(len(self.model.threads.adapters))]
        return {f"L_{domain}": mean(losses) for domain, losses in enumerate(by_domain)}

    def _seen(self, positions: Tensor) -> Tensor | None:
        """Return the items of each position's row, long [P, L], or None if they may be drawn as negatives."""
        if self.objective.settings.seen_negatives:
            return None
        rows, inverse = torch.unique(
            torch.searchsorted(self.frozen.starts, positions, right=True) - 1, return_inverse=True
        )
        return self.sequences.batch(rows).items[inverse]

    def notes(self) -> dict[str, float]:
        """Return the mean of |u^d| / |u| over a sample of the training positions that have a domain state."""
        f = self.frozen
        sample = torch.nonzero(f.present).squeeze(1)[:: max(1, int(f.present.sum()) // 10_000)]
        with torch.no_grad():
            domains = self.domain_of[f.targets[sample]]
            norms = self.model.threads(_take(f.domain_states, sample), f.present[sample], domains).norm(dim=1)
        ratio = norms / _take(f.global_states, sample).norm(dim=1).clamp_min(1e-12)
        return {"domain_to_global": float(ratio.mean()) if len(sample) else 0.0}


@dataclass(frozen=True)
class FrozenQueries:
    """The frozen parts of eq. 11 for n queries.

    Scoring during fine-tuning then costs only two small layers.
    """

    global_states: Tensor
    domain_states: Tensor
    present: Tensor
    domains: Tensor
    items: Tensor
    side: SideContext | None

    @classmethod
    def of(cls, model: ThreadedModel, inputs: Sequences, domains: np.ndarray) -> FrozenQueries:
        """Encode the histories `inputs`, each queried in the domain domains[row]."""
        sequences = DeviceSequences(inputs, model.table, model.context_length)
        device = model.domain_of.device
        queried = torch.from_numpy(domains).to(device)
        hidden, side = model.settings.hidden, model.no_context(len(queried))
        global_states, domain_states = (torch.zeros(len(queried), hidden, device=device) for _ in range(2))
        present = torch.zeros(len(queried), dtype=torch.bool, device=device)
        model.eval()
        with torch.no_grad():
            for rows in sequences.by_length(ENCODE):
                batch = sequences.batch(rows, queried[rows])
                global_states[rows], domain_states[rows], present[rows], _ = model.last_parts(batch)
                model.put_context(side, rows, batch)
        return cls(
            global_states=global_states,
            domain_states=domain_states,
            present=present,
            domains=queried,
            items=model.item_vectors(),
            side=side,
        )

    def scorer(self, model: ThreadedModel) -> Scorer:
        with torch.no_grad():
            states = model.add_threads(self.global_states, self.domain_states, self.present, self.domains)
        return vector_scorer(InnerProduct(model.table.domains, states, self.items), self.side)
