"""Statistics of a prepared dataset: table 1 and figure 1 of the paper, ties, repeats and coverage by text."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from edt_cli.data.dataset import TEXT_FIELDS, Dataset
from edt_cli.data.imbalance import imbalance

BINS = 10
SAMPLE = 5


def statistics(dataset: Dataset, manifest: dict[str, Any]) -> dict[str, Any]:
    """Compute all statistics of a dataset as a JSON document.

    Shares are in [0, 1], or None if there is nothing to take a share of.
    """
    names = dataset.domains.names
    counts = dataset.sequences.domain_counts(dataset.domains)
    degrees = imbalance(counts)
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "data": dataset.name,
        "data_key": dataset.key,
        "synthetic": bool(manifest.get("synthetic")),
        "release": manifest.get("release"),
        "settings": dataset.settings.model_dump(mode="json"),
        "users": len(dataset.sequences),
        "interactions": len(dataset.sequences.items),
        "average_length": _mean(dataset.sequences.lengths),
        "domains": [_domain(dataset, number, counts) for number in range(len(names))],
        "users_in_several_domains": int(((counts > 0).sum(1) > 1).sum()),
        "r": {"edges": edges.round(1).tolist(), "users": np.histogram(degrees, edges)[0].tolist()},
        "ties": _ties(dataset, manifest),
        "repeats": _repeats(dataset),
        "item_vectors": manifest.get("item_vectors"),
        "sample": _sample(dataset, degrees),
        "tally": manifest.get("tally", {}),
    }


def _domain(dataset: Dataset, number: int, counts: np.ndarray) -> dict[str, Any]:
    """Compute the size of a domain, its targets, and the shares of its items and interactions with text."""
    span = dataset.domains.range(number)
    rows = dataset.catalogue[span.start - 1 : span.stop - 1]
    has_text = rows.select(pl.any_horizontal(pl.col(TEXT_FIELDS).is_not_null())).to_series().to_numpy()
    items = dataset.sequences.items
    interacted = items[(items >= span.start) & (items < span.stop)] - span.start
    return {
        "domain": dataset.domains.names[number],
        "users": int((counts[:, number] > 0).sum()),
        "items": len(span),
        "interactions": int(counts[:, number].sum()),
        "items_with_text": _mean(has_text),
        "interactions_with_text": _mean(has_text[interacted]),
        "valid_targets": int((dataset.targets("valid").domains == number).sum()),
        "test_targets": int((dataset.targets("test").domains == number).sum()),
    }


def _ties(dataset: Dataset, manifest: dict[str, Any]) -> dict[str, Any]:
    """Compute the shares of ties.

    Returns:
        `steps`: the share of steps from an interaction to the next of a user that have the same time.
        `test_targets`: the share of test targets at the same time as a neighbour, which another order would change.
        `file_ascending`: the share of tied steps that ascend by item id in the files; a half means no order.
    """
    users, times = dataset.sequences.users, dataset.times
    same_user = users[1:] == users[:-1]
    tied = same_user & (times[1:] == times[:-1])
    near = np.concatenate([[False], tied]) | np.concatenate([tied, [False]])
    targets = dataset.targets("test")
    order = manifest.get("tie_order", {"steps": 0, "ascending": 0})
    return {
        "steps": _mean(tied[same_user]),
        "test_targets": _mean(near[dataset.sequences.offsets[targets.users] + targets.positions]),
        "file_ascending": order["ascending"] / order["steps"] if order["steps"] else None,
    }


def _repeats(dataset: Dataset) -> dict[str, Any]:
    """Count the targets of each split that are repeats.

    Also returns their share in the test split and in both, and whether seen items stay candidates by default.
    """
    repeats = {split: dataset.repeats(split) for split in dataset.target_positions}
    return {
        **{f"{split}_targets": int(repeated.sum()) for split, repeated in repeats.items()},
        "test_share": _mean(repeats["test"]),
        "share": dataset.repeat_share,
        "keep_seen": dataset.keeps_seen(),
    }


def _sample(dataset: Dataset, degrees: np.ndarray) -> dict[str, list[str]]:
    """Return a few user ids as examples, spread over the dataset."""

    def some(users: np.ndarray) -> list[str]:
        index = np.linspace(0, len(users) - 1, min(SAMPLE, len(users))).astype(int)
        return [dataset.user_ids[user] for user in users[index]]

    return {"one_domain": some(np.flatnonzero(degrees == 1)), "several_domains": some(np.flatnonzero(degrees < 1))}


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
