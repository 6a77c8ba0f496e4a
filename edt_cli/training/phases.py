"""The two phases of section 3.3: global pre-training (all other systems know only this one) and fine-tuning."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.config import TrainingSettings
from edt_cli.evaluation.ranking import ENCODE, InnerProduct, Recalled, Scorer, no_windows
from edt_cli.models.batch import Batch, DeviceSequences, ItemTable, last_state
from edt_cli.models.llm_edt import LLMEDT
from edt_cli.models.sequential import Positions, SequentialModel
from edt_cli.training.batches import epoch_batches
from edt_cli.training.objective import Negatives, NextItem

PREPARATION = "preparation"
"""The phase of a model that another one must have before it is trained itself."""
KEPT_BYTES = 1 << 29
"""Frozen states above this lie in a file."""


class Pretraining:
    """Eq. 9 and 14, over whole sequences."""

    name = "pre-training"

    def __init__(
        self,
        model: SequentialModel,
        sequences: DeviceSequences,
        table: ItemTable,
        s: TrainingSettings,
        name: str = name,
    ) -> None:
        self.name = name
        self.model = model
        self.own = model.own_optimizer()
        self.sequences = sequences
        self.size = s.batch
        self.lr = s.lr
        self.epochs = s.epochs
        self.min_steps = s.min_steps
        self.validate_steps = s.validate_steps
        self.steps_per_epoch = math.ceil(int((sequences.lengths > 0).sum()) / s.batch)
        self.order, drawn = seeded(s.seed, table.domain_of.device)
        self.generators = [self.order, drawn]
        self.objective = NextItem(s, Negatives.over(table, drawn))

    def batches(self) -> Iterator[Batch]:
        for rows in epoch_batches(self.sequences.lengths, self.size, self.order):
            yield self.model.extended(self.sequences.batch(rows))

    def own_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.own_loss(batch, self.objective)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch, self.objective)

    def notes(self) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class FrozenStates:
    """What the frozen backbone says at P training positions, in the order of the users: the global state u and the
    domain state h^d [P, D], whether h^d exists, the target, and what a memory looks at [P, W] (W = 0 without one).
    `starts` [U + 1]: the positions of each row."""

    global_states: Tensor
    domain_states: Tensor
    present: Tensor
    targets: Tensor
    windows: Tensor
    starts: Tensor


def frozen_states(model: LLMEDT, sequences: DeviceSequences, folder: Path | None = None) -> FrozenStates:
    """Section 3.3.2, once: an epoch of fine-tuning is then only the adapters. Large ones lie in a file of `folder`
    that goes with the process, and are read from there as they are needed."""
    device = sequences.lengths.device
    starts = F.pad(sequences.targets().cumsum(0), (1, 0))
    total, hidden = int(starts[-1]), model.settings.hidden
    global_states, domain_states = (_room(total, hidden, device, folder) for _ in range(2))
    present = torch.empty(total, dtype=torch.bool, device=device)
    targets = torch.empty(total, dtype=torch.long, device=device)
    windows = no_windows(model, total)
    model.eval()
    with torch.no_grad():
        for rows in sequences.by_length(ENCODE):
            batch = sequences.batch(rows)
            real = batch.targets > 0
            place = (starts[rows, None] + real.cumsum(1) - 1)[real]
            x = model.encode_items(batch.items)
            states, there = model.domain_positions(batch, x)
            _put(global_states, place, model.backbone(x, batch.lengths)[real])
            _put(domain_states, place, states[real])
            present[place], targets[place] = there[real], batch.targets[real]
            if model.memory is not None:
                windows[place] = model.memory.windows(batch)[real]
    return FrozenStates(global_states, domain_states, present, targets, windows, starts)


def _room(rows: int, hidden: int, device: torch.device, folder: Path | None) -> Tensor:
    if folder is None or rows * hidden * 4 <= KEPT_BYTES:
        return torch.empty(rows, hidden, device=device)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, hidden)))


def _put(states: Tensor, place: Tensor, values: Tensor) -> None:
    states[place.to(states.device)] = values.to(states.device)


def _take(states: Tensor, place: Tensor) -> Tensor:
    return states[place.to(states.device)].to(place.device)


class FineTuning:
    """Eq. 12 and 15: the domain adapters alone, over states that are computed once."""

    name = "fine-tuning"
    own = None

    def __init__(
        self,
        model: LLMEDT,
        sequences: DeviceSequences,
        table: ItemTable,
        s: TrainingSettings,
        folder: Path | None = None,
    ) -> None:
        model.freeze_global()
        model.fine_tuned = True
        self.model = model
        self.sequences = sequences
        self.size = s.batch
        self.lr = s.finetune_lr
        self.epochs = s.finetune_epochs
        self.min_steps = s.finetune_min_steps
        self.validate_steps = s.finetune_validate_steps
        self.frozen = frozen_states(model, sequences, folder)
        self.counts = self.frozen.starts.diff()
        self.steps_per_epoch = math.ceil(int((self.counts > 0).sum()) / s.batch)
        self.domain_of = table.domain_of
        with torch.no_grad():
            everything = torch.arange(len(table.domain_of), device=table.domain_of.device)
            self.items = model.encode_items(everything)
        self.order, drawn = seeded(s.seed + 1, table.domain_of.device)
        self.generators = [self.order, drawn]
        self.objective = NextItem(s, Negatives.over(table, drawn))

    def batches(self) -> Iterator[Tensor]:
        """Positions of the users of a batch, long [P]."""
        for rows in epoch_batches(self.counts, self.size, self.order):
            counts = self.counts[rows]
            first = torch.repeat_interleave(self.frozen.starts[rows] - (counts.cumsum(0) - counts), counts)
            yield first + torch.arange(len(first), device=first.device)

    def own_loss(self, batch: Tensor) -> dict[str, Tensor]:
        return {}

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        f = self.frozen
        targets = f.targets[batch]
        domains = self.domain_of[targets]
        own = (_take(f.domain_states, batch), f.present[batch], domains)
        states = self.model.together(_take(f.global_states, batch), *own)
        at = Positions(states, self.items[targets], targets, self._had(batch), f.windows[batch])
        losses = self.objective(at, lambda ids: self.items[ids], self.model.memory)
        means = [losses[domains == domain] for domain in range(len(self.model.threads.adapters))]
        return {f"L_{domain}": own.mean() for domain, own in enumerate(means) if len(own)}

    def _had(self, positions: Tensor) -> Tensor | None:
        """long [P, L]: what each position's row holds, where its items are no negatives."""
        if self.objective.settings.seen_negatives:
            return None
        rows, place = torch.unique(
            torch.searchsorted(self.frozen.starts, positions, right=True) - 1, return_inverse=True
        )
        return self.sequences.batch(rows).items[place]

    def notes(self) -> dict[str, float]:
        """The mean of |u^d| / |u| over training positions that have a domain state."""
        f = self.frozen
        sample = torch.nonzero(f.present).squeeze(1)[:: max(1, int(f.present.sum()) // 10_000)]
        with torch.no_grad():
            domains = self.domain_of[f.targets[sample]]
            own = self.model.threads(_take(f.domain_states, sample), f.present[sample], domains).norm(dim=1)
        ratio = own / _take(f.global_states, sample).norm(dim=1).clamp_min(1e-12)
        return {"domain_to_global": float(ratio.mean()) if len(sample) else 0.0}


@dataclass(frozen=True)
class FrozenQuestions:
    """The parts of eq. 11 at the targets of a split: scoring during fine-tuning costs two small layers."""

    table: ItemTable
    global_states: Tensor
    domain_states: Tensor
    present: Tensor
    asked: Tensor
    items: Tensor
    windows: Tensor

    @classmethod
    def of(cls, model: LLMEDT, table: ItemTable, sequences: DeviceSequences, asked: Tensor) -> FrozenQuestions:
        hidden, device = model.settings.hidden, asked.device
        global_states, domain_states = (torch.zeros(len(asked), hidden, device=device) for _ in range(2))
        present = torch.zeros(len(asked), dtype=torch.bool, device=device)
        windows = no_windows(model, len(asked))
        model.eval()
        with torch.no_grad():
            for rows in sequences.by_length(ENCODE):
                batch = sequences.batch(rows, asked[rows])
                global_states[rows], domain_states[rows], present[rows], _ = model.last_parts(batch)
                if model.memory is not None:
                    windows[rows] = last_state(model.memory.windows(batch), batch.lengths)
            items = model.encode_items(torch.arange(table.catalogue + 1, device=device))
        return cls(table, global_states, domain_states, present, asked, items, windows)

    def scorer(self, model: LLMEDT) -> Scorer:
        with torch.no_grad():
            states = model.together(self.global_states, self.domain_states, self.present, self.asked)
        vectors = InnerProduct(self.table.domains, states, self.items)
        return vectors if model.memory is None else Recalled(vectors, model.memory, self.windows)


def seeded(seed: int, device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """One generator for the order of an epoch (CPU), one for negatives (on the device)."""
    return torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
