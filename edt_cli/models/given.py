"""What a model may be made of, and the settings that one system has to itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edt_cli.config import ModelSettings, Section, TrainingSettings, UserError
from edt_cli.data.dataset import Sequences, TrainingView
from edt_cli.models.batch import ItemTable


class NoOptions(Section):
    """Of a system that has no settings to itself."""


@dataclass(frozen=True)
class Given:
    """`sequences`: the rows of training, augmented or as they happened; a batch's `rows` are numbers of them.

    `options`: the system's own settings. `profiles`: float32 [U, d_L], zero rows for users without one, or None.
    `view`: the training prefixes and the catalogue's texts; None where a model is only timed.
    """

    table: ItemTable
    model: ModelSettings
    training: TrainingSettings
    options: Section
    sequences: Sequences | None = None
    view: TrainingView | None = None
    profiles: Tensor | None = None

    def needed_profiles(self, without: str) -> Tensor:
        """Errors: UserError where there are none; `without` says how to do without them."""
        if self.profiles is None:
            raise UserError(f"{self.model.name} needs user profiles: set profiling.enabled = true, or {without}")
        return self.profiles
