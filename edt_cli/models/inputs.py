"""The inputs that a model is built from."""

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
    """Options of a system that has none."""


def mixed_only(s: Settings) -> None:
    """Check the settings of a system that learns from mixed sequences only.

    Raises:
        UsageError: If `model.sequence` is `single`.
    """
    if s.model.sequence == "single":
        raise UsageError(f"{s.model.name} learns from mixed sequences and does not support model.sequence = single")


@dataclass(frozen=True)
class GeneratedItems:
    """Items that an LLM generated, for systems that do not read them as part of the sequences.

    There are Q pairs of a user and a domain, each with up to n items.

    Attributes:
        users: Long [Q].
        domains: Long [Q], the domain that the items were generated for.
        items: Long [Q, n], rows of `vectors`; 0 after the last.
        vectors: Float32 [1 + V, d_L], the text vectors; row 0 stands for no item.
    """

    users: Tensor
    domains: Tensor
    items: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, users: np.ndarray, domains: np.ndarray, items: np.ndarray, vectors: np.ndarray) -> GeneratedItems:
        """Group G generated items by user and domain.

        Args:
            users: [G], the user of each generated item.
            domains: [G], the domain it was generated for.
            items: [G], its row of `vectors`.
            vectors: Float32 [rows, d_L]; only the rows in use, and row 0, are kept.
        """
        pairs, pair = np.unique(np.stack([users, domains]), axis=1, return_inverse=True)
        pair = pair.ravel()
        order = np.argsort(pair, kind="stable")
        counts = np.bincount(pair, minlength=pairs.shape[1])
        column = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.zeros((pairs.shape[1], counts.max(initial=1)), np.int64)
        used, number = np.unique(np.append(0, items), return_inverse=True)
        rows[pair[order], column] = number[1:][order]
        pair_users, pair_domains = (torch.from_numpy(part) for part in pairs)
        return cls(
            users=pair_users,
            domains=pair_domains,
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
    """Everything that a model is built from.

    Attributes:
        table: All items, with their domains, counts and text vectors.
        model: Settings of the model.
        training: Settings of the training.
        options: Settings of this system alone, an instance of its class `Options`.
        sequences: The training sequences, augmented or not; the `rows` of a batch are indices into them.
        view: The training prefixes and the catalogue's texts; None if a model is only timed.
        profiles: Float32 [U, d_L], the vectors of user profiles, zero rows for users without one; or None.
        generated: Generated items; None if there are none or if they are part of `sequences`.
        inserted: Bool, the items of `sequences` that are not targets; None if all are targets.
        folder: Where tensors that are too large for memory may be stored during training.
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
        """`sequences` on the device, ready to be batched."""
        assert self.sequences is not None
        return DeviceSequences(self.sequences, self.table, self.model.max_length, self.inserted)

    def needed_profiles(self, without: str) -> Tensor:
        """Return the user profiles of a system that needs them.

        Args:
            without: The setting that makes this system run without profiles, for the error message.

        Raises:
            UserError: If there are no profiles.
        """
        if self.profiles is None:
            raise UserError(f"{self.model.name} needs user profiles: set profiling.enabled = true, or {without}")
        return self.profiles
