"""The users of a dataset as the stages of a run have them: read once, shown in a list and one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edt_cli.ui.library import RunRow
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    import numpy as np

    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.config import TrainOn
    from edt_cli.data.dataset import Dataset
    from edt_cli.profiling.profiles import Profiles


@dataclass(frozen=True)
class Histories:
    """A dataset, and what a run's stages made of its users; `row` None: only what happened."""

    dataset: Dataset
    made: Augmentation
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
        """[U, D] training items of each domain."""
        d = self.dataset
        return d.sequences.prefixes(d.learned_lengths(self.train_on)).domain_counts(d.domains)

    @cached_property
    def ratios(self) -> np.ndarray:
        from edt_cli.data.imbalance import imbalance

        return imbalance(self.counts)

    @cached_property
    def inserted(self) -> np.ndarray:
        """[U] items that the augmenter inserted."""
        import numpy as np

        return np.bincount(self.made.sequences.users[self.made.inserted], minlength=len(self.dataset.user_ids))


def read_histories(workspace: Workspace, data: str, row: RunRow | None) -> Histories:
    """Errors: UserError where the dataset or an artefact is damaged. Artefacts of other data are left aside."""
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import load
    from edt_cli.profiling.profiles import Profiles

    dataset = load(workspace.dataset(data))
    keys = artefacts_of(row) if row is not None else {}
    view = dataset.training_view(_train_on(row))
    if row is not None and row.plan.get("data_key") != view.key:
        row, keys, view = None, {}, dataset.training_view()
    augmentation = workspace.artefact("augmentation", keys.get("augmentation", "none"))
    profiles = workspace.artefact("profiles", keys.get("profiles", "none"))
    histories = Histories(
        dataset=dataset,
        made=Augmentation.load(augmentation.path) if augmentation.complete else Augmentation.none(view),
        profiles=Profiles.load(profiles.path) if profiles.complete else Profiles.none(len(view.prefixes), 0),
        row=row,
    )
    # Counted here, in the thread that reads.
    assert histories.counts is not None and histories.ratios is not None and histories.inserted is not None
    return histories


def artefacts_of(row: RunRow) -> dict[str, str]:
    found = row.plan.get("artefacts")
    return found if isinstance(found, dict) else {}


def _train_on(row: RunRow | None) -> TrainOn:
    return row.plan.get("settings", {}).get("training", {}).get("train_on", "train") if row else "train"
