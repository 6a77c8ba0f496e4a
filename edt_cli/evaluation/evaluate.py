"""Result document of a run: metrics per domain, overall and per group of users, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.groups import user_groups
from edt_cli.evaluation.metrics import list_metrics, ranking_metrics
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import Ranks
from edt_cli.workspace.documents import Figures, Measured


def figures(dataset: Dataset, queries: EvalQueries, ranks: Ranks, protocol: str, has_text: np.ndarray) -> Measured:
    """Compute the metrics of a run from the ranks of its targets.

    Args:
        dataset: The dataset of the queries.
        queries: At least one query.
        ranks: The ranks of the queries' targets.
        protocol: "full" or "sampled"; the ranks of the latter must be in `ranks`.
        has_text: bool [1 + N].

    Returns:
        {"domains": {name: {"users", "hr@10", ...}}, "overall": {...}, "groups": {group: {label: {name: ...}}}}.
        Domains without a target and groups without a user are left out.
    """
    target_ranks = ranks.full if protocol == "full" else ranks.sampled
    assert target_ranks is not None
    popularity = dataset.training_view().popularity()
    all_rows = np.ones(len(queries), dtype=bool)
    domains: dict[str, Figures] = {}
    for number, name, rows in _by_domain(dataset, queries, all_rows):
        size = len(dataset.domains.range(number))
        domains[name] = {**_measured(target_ranks[rows]), **list_metrics(ranks.top[rows], size, popularity)}
    of_lists = list_metrics(ranks.top, dataset.domains.items, popularity)
    overall: Figures = {**_measured(target_ranks), **of_lists}
    groups = {
        group: {
            label: {name: _measured(target_ranks[rows]) for _, name, rows in _by_domain(dataset, queries, members)}
            for label, members in labels.items()
            if members.any()
        }
        for group, labels in user_groups(dataset, queries, has_text).items()
    }
    return {"domains": domains, "overall": overall, "groups": groups}


def _measured(ranks: np.ndarray) -> Figures:
    return {"users": len(ranks), **ranking_metrics(ranks)}


def _by_domain(
    dataset: Dataset, queries: EvalQueries, members: np.ndarray
) -> Iterator[tuple[int, str, np.ndarray]]:
    for number, name in enumerate(dataset.domains.names):
        rows = np.flatnonzero(members & (queries.targets.domains == number))
        if len(rows):
            yield number, name, rows
