"""Histories of a dataset's users with the artefacts of a run, for the list of users and the view of one user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edt_cli.inference.listing import RunRow
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    import numpy as np

    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.config import TrainOn
    from edt_cli.data.dataset import Dataset
    from edt_cli.profiling.profiles import Profiles


@dataclass(frozen=True)
class Histories:
    """A dataset with a run's augmentation and profiles; without a run (`row` is None), real interactions only."""

    dataset: Dataset
    augmentation: Augmentation
    profiles: Profiles
    row: RunRow | None

    @property
    def train_on(self) -> TrainOn:
        return _train_on(self.row)

    @property
    def llm(self) -> str:
        return str(self.row.plan.get("llm", "")) if self.row else ""

    @cached_property
    def counts(self) -> np.ndarray:
        """[U, D]: number of training items in each domain."""
        d = self.dataset
        return d.sequences.prefixes(d.learned_lengths(self.train_on)).domain_counts(d.domains)

    @cached_property
    def ratios(self) -> np.ndarray:
        """[U]: imbalance r of each user."""
        from edt_cli.data.imbalance import imbalance

        return imbalance(self.counts)

    @cached_property
    def inserted(self) -> np.ndarray:
        """[U]: number of items that the augmenter inserted."""
        import numpy as np

        return np.bincount(
            self.augmentation.sequences.users[self.augmentation.inserted], minlength=len(self.dataset.user_ids)
        )


def read_histories(workspace: Workspace, data: str, row: RunRow | None) -> Histories:
    """Read a dataset and the artefacts of a run; a run on other data is ignored.

    Raises:
        UserError: If the dataset or an artefact is damaged.
    """
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.saved import load
    from edt_cli.profiling.profiles import Profiles

    dataset = load(workspace.dataset(data))
    keys = artefacts_of(row) if row is not None else {}
    view = dataset.training_view(_train_on(row))
    if row is not None and row.plan.get("data_key") != view.key:
        row, keys, view = None, {}, dataset.training_view()
    artefact = workspace.artefact("augmentation", keys.get("augmentation", "none"))
    profiles = workspace.artefact("profiles", keys.get("profiles", "none"))
    histories = Histories(
        dataset=dataset,
        augmentation=Augmentation.load(artefact.path) if artefact.complete else Augmentation.none(view),
        profiles=Profiles.load(profiles.path) if profiles.complete else Profiles.none(len(view.prefixes), 0),
        row=row,
    )
    # Computed here, in the thread that reads.
    assert histories.counts is not None and histories.ratios is not None and histories.inserted is not None
    return histories


def artefacts_of(row: RunRow) -> dict[str, str]:
    """Return the keys of a run's artefacts, by kind."""
    artefacts = row.plan.get("artefacts")
    return artefacts if isinstance(artefacts, dict) else {}


def _train_on(row: RunRow | None) -> TrainOn:
    """Return the part of each history that a run was trained on."""
    return row.plan.get("settings", {}).get("training", {}).get("train_on", "train") if row else "train"
