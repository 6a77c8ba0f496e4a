"""What a model may be made of, and the settings that one system has to itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edt_cli.config import ModelSettings, Section, Settings, TrainingSettings, UsageError, UserError
from edt_cli.data.dataset import Sequences, TrainingView
from edt_cli.models.batch import DeviceSequences, ItemTable


class NoOptions(Section):
    """Of a system that has no settings to itself."""


def mixed_only(s: Settings) -> None:
    """Errors: UsageError where a system that learns from mixed sequences is to have single domains."""
    if s.model.sequence == "single":
        raise UsageError(f"{s.model.name} learns from mixed sequences: model.sequence = single is for the others")


@dataclass(frozen=True)
class GeneratedItems:
    """What an LLM thought of for a user in a domain, for the systems that put it to a use of their own.

    users, domains: long [Q]. items: long [Q, n], rows of `vectors`, 0 after the last. vectors: float32
    [1 + V, d_L], the first of nothing.
    """

    users: Tensor
    domains: Tensor
    items: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, users: np.ndarray, domains: np.ndarray, items: np.ndarray, vectors: np.ndarray) -> GeneratedItems:
        """From one row a generated item: numpy arrays [G]; items are rows of `vectors`."""
        pairs, question = np.unique(np.stack([users, domains]), axis=1, return_inverse=True)
        question = question.ravel()
        order = np.argsort(question, kind="stable")
        counts = np.bincount(question, minlength=pairs.shape[1])
        place = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.zeros((pairs.shape[1], counts.max(initial=1)), np.int64)
        used, number = np.unique(np.append(0, items), return_inverse=True)
        rows[question[order], place] = number[1:][order]
        users_asked, domains_asked = (torch.from_numpy(part) for part in pairs)
        return cls(
            users=users_asked,
            domains=domains_asked,
            items=torch.from_numpy(rows),
            vectors=torch.from_numpy(vectors[used]),
        )

    def to(self, device: torch.device) -> GeneratedItems:
        return GeneratedItems(
            users=self.users.to(device),
            domains=self.domains.to(device),
            items=self.items.to(device),
            vectors=self.vectors.to(device),
        )


@dataclass(frozen=True)
class ModelInputs:
    """`sequences`: the rows of training, augmented or as they happened; a batch's `rows` are numbers of them.

    `options`: the system's own settings. `profiles`: float32 [U, d_L], zero rows for users without one, or None.
    `view`: the training prefixes and the catalogue's texts; None where a model is only timed. `generated`: None
    where there are no generated items, or where they stand in `sequences`. `inserted`: bool, the items of
    `sequences` that are no targets; None where all are.
    `folder`: where what is too large for memory may lie while training.
    """

    table: ItemTable
    model: ModelSettings
    training: TrainingSettings
    options: Section
    sequences: Sequences | None = None
    view: TrainingView | None = None
    profiles: Tensor | None = None
    generated: GeneratedItems | None = None
    inserted: np.ndarray | None = None
    folder: Path | None = None

    @cached_property
    def on_device(self) -> DeviceSequences:
        """`sequences`, to be trained on."""
        assert self.sequences is not None
        return DeviceSequences(self.sequences, self.table, self.model.max_length, self.inserted)

    def needed_profiles(self, without: str) -> Tensor:
        """Errors: UserError where there are none; `without` says how to do without them."""
        if self.profiles is None:
            raise UserError(f"{self.model.name} needs user profiles: set profiling.enabled = true, or {without}")
        return self.profiles
