"""The training data of a run: the dataset's training view, and the artefacts made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import KeepSeen, Settings, Split
from edt_cli.data.dataset import Dataset, Sequences, TrainingView
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.batch import ItemTable, domain_rows, item_table
from edt_cli.models.inputs import GeneratedItems, ModelInputs
from edt_cli.models.systems import options_of
from edt_cli.profiling.profiles import Profiles


@dataclass(frozen=True)
class TrainingData:
    """Everything that a run is trained on.

    Attributes:
        dataset: The dataset.
        view: Its training view, without held-out interactions.
        sequences: The training prefixes, augmented or not.
        table: The table of all items.
        profiles: Float32 [U, d_L], the vectors of user profiles, zero rows for users without one; or None.
        generated: Generated items, for a system that gets them separately from its sequences.
        inserted: Bool, the items of augmented sequences that were inserted; None if there are none.
    """

    dataset: Dataset
    view: TrainingView
    sequences: Sequences
    table: ItemTable
    profiles: Tensor | None
    generated: GeneratedItems | None = None
    inserted: np.ndarray | None = None

    @property
    def device(self) -> torch.device:
        return self.table.domain_of.device

    def given(self, settings: Settings, folder: Path | None = None) -> ModelInputs:
        """Return the inputs of the model of `settings`; `single` systems get a row for each user and domain.

        Args:
            settings: The settings of the run.
            folder: Where tensors that are too large for memory may be stored during training.
        """
        rows, inserted = self.sequences, None if settings.training.inserted_targets else self.inserted
        if settings.model.sequence == "single":
            rows = domain_rows(rows, self.table)
        return ModelInputs(
            table=self.table,
            model=settings.model,
            training=settings.training,
            options=options_of(settings.model.name, settings.options),
            sequences=rows,
            view=self.view,
            profiles=self.profiles,
            generated=self.generated,
            inserted=inserted,
            folder=folder,
        )

    def queries(self, split: Split, keep_seen: KeepSeen = "auto") -> EvalQueries:
        """Return the evaluation queries of a split.

        `keep_seen` says whether items of the user's history stay candidates.
        """
        keep = self.dataset.keeps_seen(keep_seen)
        return eval_queries(self.dataset, split, self.sequences, self.view.prefixes.lengths, keep_seen=keep)


def assemble(
    dataset: Dataset,
    view: TrainingView,
    device: str,
    *,
    embeddings: ItemEmbeddings | None,
    augmentation: Augmentation | None,
    augmented: bool,
    profiles: Profiles | None,
) -> TrainingData:
    """Combine a dataset's training view with the artefacts that a system needs.

    Args:
        dataset: The dataset.
        view: Its training view.
        device: The device that tensors are moved to.
        embeddings: Text vectors of items; None if not needed.
        augmentation: Generated items; None if not needed or switched off.
        augmented: Whether generated items are inserted into the sequences. If not, the system gets them separately.
        profiles: User profiles; None if not needed or switched off.
    """
    sequences, domain_of, inserted, generated = view.prefixes, None, None, None
    vectors = None if embeddings is None else embeddings.vectors
    if augmentation is not None and embeddings is not None:
        if augmented:
            sequences, domain_of = augmentation.timed(sequences), augmentation.domain_of(view.domains)
            inserted = augmentation.inserted
            vectors = augmentation.vectors(embeddings)
        elif len(kept := augmentation.generated.filter("kept")):
            users, targets, items = (kept[name].to_numpy() for name in ("user", "target", "item"))
            generated = GeneratedItems.of(users, targets, items, augmentation.vectors(embeddings))
            generated = generated.to(torch.device(device))
    profile_vectors = None if profiles is None else torch.from_numpy(profiles.vectors)
    table = item_table(view.domains, sequences, domain_of, vectors).to(torch.device(device))
    return TrainingData(
        dataset=dataset,
        view=view,
        sequences=sequences,
        table=table,
        profiles=profile_vectors,
        generated=generated,
        inserted=inserted,
    )
