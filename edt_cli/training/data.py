"""What a run learns from: the dataset's training view, and what the stages made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import KeepSeen, Settings
from edt_cli.data.dataset import Dataset, Sequences, Split, TrainingView
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.batch import ItemTable, domain_rows, item_table
from edt_cli.models.inputs import GeneratedItems, ModelInputs
from edt_cli.models.systems import options_of
from edt_cli.profiling.profiles import Profiles


@dataclass(frozen=True)
class TrainingData:
    """All that a run learns from. `sequences`: the training prefixes, augmented or as they happened; `inserted`:
    bool, the items of an augmented one that nobody had, or None.

    `profiles`: float32 [U, d_L], zero rows for users without one, or None. `generated`: what was generated for
    users, where a system is handed it beside its sequences.
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
        """What the model of `settings` is made of; `single` systems have a row for each user and domain. `folder`:
        where what is too large for memory may lie while training."""
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

    @cached_property
    def has_text(self) -> np.ndarray:
        """bool [1 + N]."""
        catalogue = self.dataset.catalogue
        text = np.zeros(len(catalogue), dtype=bool)
        for field in catalogue.columns[1:]:
            text |= catalogue[field].is_not_null().to_numpy()
        return np.append(False, text)

    def queries(self, split: Split, keep_seen: KeepSeen = "auto") -> EvalQueries:
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
    """What the stages made, on a device; None for what a system does not need or settings switch off.

    `augmented`: generated items stand in the sequences; else a system is handed them as they are.
    """
    sequences, domain_of, inserted, generated = view.prefixes, None, None, None
    vectors = None if embeddings is None else embeddings.vectors
    if augmentation is not None and embeddings is not None:
        if augmented:
            sequences, domain_of = augmentation.timed(sequences), augmentation.domain_of(view.domains)
            inserted = augmentation.inserted
            vectors = augmentation.vectors(embeddings)
        elif len(usable := augmentation.generated.filter("kept")):
            users, targets, items = (usable[name].to_numpy() for name in ("user", "target", "item"))
            generated = GeneratedItems.of(users, targets, items, augmentation.vectors(embeddings))
            generated = generated.to(torch.device(device))
    of_users = None if profiles is None else torch.from_numpy(profiles.vectors)
    table = item_table(view.domains, sequences, domain_of, vectors).to(torch.device(device))
    return TrainingData(
        dataset=dataset,
        view=view,
        sequences=sequences,
        table=table,
        profiles=of_users,
        generated=generated,
        inserted=inserted,
    )
