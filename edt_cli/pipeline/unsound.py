"""Training data as two departures of the authors' released code make it: unsound, its figures are no result.

Each builds another dataset out of one and its augmentation, in which generated items are items of the catalogue.
The dataset itself, its `TrainingView` and the leak checks stay as they are; runs on such data are marked by
`unsound` in their plan, manifest and results.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import PSEUDO, Augmentation
from edt_cli.config import UserError
from edt_cli.data.assemble import leave_one_out
from edt_cli.data.dataset import TEXT_FIELDS, Dataset, Domains, Sequences
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.llm_edt_options import Unsound
from edt_cli.profiling.profiles import Profiles
from edt_cli.training.data import TrainingData, assemble
from edt_cli.workspace.layout import digest


def unsound_data(
    kind: Unsound,
    dataset: Dataset,
    augmentation: Augmentation,
    embeddings: ItemEmbeddings,
    profiles: Profiles | None,
    *,
    key: str,
    device: str,
) -> TrainingData:
    """Return the training data of a departure.

    Args:
        kind: The departure. `generated-candidates`: the released code ranks a target among generated items, too.
            `split-after-augmentation`: its loader splits the augmented sequences, so that an item that was inserted
            after a user's last interaction is the test target.
        dataset: The dataset.
        augmentation: Its augmentation: of training, or of the whole sequences for a split after it.
        embeddings: Text vectors of the catalogue.
        profiles: User profiles; None if there are none.
        key: Key of the augmentation.
        device: Device that tensors are moved to.

    Raises:
        UserError: If no generated item could be a candidate.
    """
    if kind == "generated-candidates" and augmentation.pseudo.is_empty():
        raise UserError(
            "there are no generated items to put among the candidates: `local` retrieves real ones; "
            "name an LLM with --provider"
        )
    grown, number = with_generated(dataset, augmentation, digest("unsound", kind, dataset.key, key))
    sequences = replace(augmentation.sequences, items=number[augmentation.sequences.items])
    if kind == "split-after-augmentation":
        times = augmentation.timed(dataset.sequences).times
        grown = split_again(grown, replace(sequences, times=times))
        augmented = Augmentation.none(grown.training_view())
    else:
        no_vectors = augmentation.pseudo_vectors[:0]
        augmented = replace(
            augmentation, sequences=sequences, pseudo=pl.DataFrame(schema=PSEUDO), pseudo_vectors=no_vectors
        )
    vectors = np.zeros_like(of_all := augmentation.vectors(embeddings))
    vectors[number] = of_all
    return assemble(
        grown,
        grown.training_view(),
        device,
        embeddings=ItemEmbeddings(vectors, (vectors != 0).any(1)),
        augmentation=augmented,
        augmented=True,
        profiles=profiles,
    )


def with_generated(dataset: Dataset, augmentation: Augmentation, key: str) -> tuple[Dataset, np.ndarray]:
    """Return a dataset whose catalogue has the generated items, each after the others of its domain.

    Returns:
        The dataset, and the new number of each item and pseudo-item, [N + 1 + P].
    """
    domain_of = augmentation.domain_of(dataset.domains)[1:]
    order = np.argsort(domain_of, kind="stable")
    number = np.zeros(len(domain_of) + 1, dtype=np.int64)
    number[order + 1] = np.arange(1, len(number))
    sizes = np.bincount(domain_of, minlength=len(dataset.domains))
    generated = augmentation.pseudo.select(pl.format("generated-{}", "number").alias("id"), *TEXT_FIELDS)
    catalogue = pl.concat([dataset.catalogue.select("id", *TEXT_FIELDS), generated])[order]
    starts = np.concatenate([[1], 1 + np.cumsum(sizes)])
    grown = replace(
        dataset,
        key=key,
        domains=Domains(dataset.domains.names, starts, dataset.domains.descriptions),
        sequences=replace(dataset.sequences, items=number[dataset.sequences.items]),
        catalogue=catalogue,
        vectors=None,
    )
    return grown, number


def split_again(dataset: Dataset, sequences: Sequences) -> Dataset:
    """Return a dataset of other sequences of its users, split by leave-one-out."""
    train, valid, test = leave_one_out(sequences.lengths)
    return replace(
        dataset, sequences=sequences, train_lengths=train, target_positions={"valid": valid, "test": test}
    )
