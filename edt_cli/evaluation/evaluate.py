"""The result document of one run: figures per domain, overall and for groups, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.groups import user_groups
from edt_cli.evaluation.metrics import list_metrics, ranking_metrics
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import Ranks


def figures(
    dataset: Dataset, asked: EvalQueries, ranks: Ranks, protocol: str, has_text: np.ndarray
) -> dict[str, Any]:
    """{"domains": {name: {"users", "hr@10", ...}}, "overall": {...}, "groups": {group: {label: {name: ...}}}}.

    At least one target is asked for. A domain without a target, and a group without a user, are left out.
    """
    of_users = ranks.full if protocol == "full" else ranks.sampled
    assert of_users is not None
    popularity = dataset.training_view().popularity()
    everyone = np.ones(len(asked), dtype=bool)
    domains = {}
    for number, name, rows in _by_domain(dataset, asked, everyone):
        size = len(dataset.domains.range(number))
        domains[name] = _measured(of_users[rows]) | list_metrics(ranks.top[rows], size, popularity)
    overall = _measured(of_users) | list_metrics(ranks.top, dataset.domains.items, popularity)
    groups = {
        group: {
            label: {name: _measured(of_users[rows]) for _, name, rows in _by_domain(dataset, asked, members)}
            for label, members in labels.items()
            if members.any()
        }
        for group, labels in user_groups(dataset, asked, has_text).items()
    }
    return {"domains": domains, "overall": overall, "groups": groups}


def _measured(ranks: np.ndarray) -> dict[str, float]:
    return {"users": len(ranks), **ranking_metrics(ranks)}


def _by_domain(dataset: Dataset, asked: EvalQueries, members: np.ndarray) -> Iterator[tuple[int, str, np.ndarray]]:
    for number, name in enumerate(dataset.domains.names):
        rows = np.flatnonzero(members & (asked.targets.domains == number))
        if len(rows):
            yield number, name, rows
