"""Small samples of datasets, for runs that only show that everything works."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, zip_longest

import numpy as np

from edt_cli.config import UserError
from edt_cli.data.dataset import Dataset, Domains
from edt_cli.data.open import is_synthetic
from edt_cli.data.saved import load, save
from edt_cli.workspace.layout import Workspace, digest

INTERACTIONS = 1000
"""Users are added to a sample until they have this many interactions."""
SEED = 42


def sample_key(dataset_key: str) -> str:
    """Return the key of the sample of a dataset with a key."""
    return digest("quick", dataset_key, INTERACTIONS, SEED)


def quick_sample(workspace: Workspace, dataset: Dataset) -> Dataset:
    """Return a sample of a dataset, kept beside it as NAME-quick; a sample is its own.

    Raises:
        UserError: If a dataset that is no sample has that name.
    """
    if dataset.sample_of:
        return dataset
    artefact = workspace.dataset(f"{dataset.name}-quick")
    recipe = sample_key(dataset.key)
    known = artefact.manifest() if artefact.complete else {"sample_of": dataset.name}
    if known.get("sample_of") != dataset.name:
        raise UserError(
            f"a quick run keeps its sample as {artefact.key!r}, and there is a dataset of this name: "
            "prepare it under another one"
        )
    if known.get("recipe") != recipe:
        synthetic = is_synthetic(workspace, dataset.name)
        with artefact.create(recipe=recipe, source=[], synthetic=synthetic, sample_of=dataset.name) as (
            folder,
            manifest,
        ):
            users = _users(dataset)
            items = np.unique(dataset.sequences.rows(users).items)
            sample = _part(dataset, users, items)
            counts = sample.sequences.domain_counts(sample.domains)
            manifest |= save(sample, folder) | {
                "data_key": recipe,
                "split": sample.settings.split,
                "users": len(sample.sequences),
                "interactions": len(sample.sequences.items),
                "items": dict(zip(sample.domains.names, np.diff(sample.domains.starts).tolist(), strict=True)),
                "users_in_several_domains": int(((counts > 0).sum(1) > 1).sum()),
            }
            if dataset.vectors is not None:
                spans = {name: sample.domains.range(number) for number, name in enumerate(sample.domains.names)}
                manifest["item_vectors"] = dataset.vectors.save_part(items, spans, folder)
    return load(artefact)


def _users(dataset: Dataset) -> np.ndarray:
    """Draw users with a test target, in turn from each domain of a target; ascending."""
    targets = dataset.targets("test")
    order = np.random.default_rng(SEED).permutation(len(targets.users))
    by_domain = [
        targets.users[order[targets.domains[order] == domain]].tolist() for domain in range(len(dataset.domains))
    ]
    drawn = [user for user in chain.from_iterable(zip_longest(*by_domain)) if user is not None]
    users = np.array(drawn or range(len(dataset.sequences)), dtype=np.int64)
    enough = np.searchsorted(np.cumsum(dataset.sequences.lengths[users]), INTERACTIONS) + 1
    return np.sort(users[:enough])


def _part(dataset: Dataset, users: np.ndarray, items: np.ndarray) -> Dataset:
    """Return what these users did, with their items alone; both ascending."""
    sequences = dataset.sequences.rows(users)
    sizes = np.bincount(dataset.domains.of(items), minlength=len(dataset.domains))
    return replace(
        dataset,
        domains=Domains(dataset.domains.names, np.concatenate([[1], 1 + np.cumsum(sizes)])),
        user_ids=[dataset.user_ids[user] for user in users.tolist()],
        sequences=replace(sequences, items=1 + np.searchsorted(items, sequences.items)),
        train_lengths=dataset.train_lengths[users],
        target_positions={split: positions[users] for split, positions in dataset.target_positions.items()},
        catalogue=dataset.catalogue[items - 1],
    )
