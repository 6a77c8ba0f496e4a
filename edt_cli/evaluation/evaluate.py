"""Result document of a run: metrics per domain, overall and per group of users, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from edt_cli.config import CUTOFFS
from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.groups import user_groups
from edt_cli.evaluation.lists import Known, list_metrics
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.workspace.documents import Figures, Measured


class ListFigures(TypedDict):
    """Metrics of recommended lists, which are the same under every protocol."""

    domains: dict[str, Figures]
    overall: Figures


def rank_figures(
    dataset: Dataset, queries: EvalQueries, ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS
) -> Measured:
    """Compute the metrics of ranks.

    Args:
        dataset: The dataset of the queries.
        queries: At least one query.
        ranks: The rank of each query's target, under one protocol.
        cutoffs: The values of k.

    Returns:
        {"domains": {name: {"users", "hr@10", ...}}, "overall": {...}, "groups": {group: {label: {name: ...}}}}.
        Domains without a target and groups without a user are left out.
    """

    def measured(rows: np.ndarray) -> Figures:
        return {"users": len(rows), **ranking_metrics(ranks[rows], cutoffs)}

    everyone = np.ones(len(queries), dtype=bool)
    return {
        "domains": {name: measured(rows) for _, name, rows in _by_domain(dataset, queries, everyone)},
        "overall": measured(np.arange(len(queries))),
        "groups": {
            group: {
                label: {name: measured(rows) for _, name, rows in _by_domain(dataset, queries, members)}
                for label, members in labels.items()
                if members.any()
            }
            for group, labels in user_groups(dataset, queries, dataset.has_text).items()
        },
    }


def list_figures(
    dataset: Dataset, queries: EvalQueries, top: np.ndarray, vectors: np.ndarray | None
) -> ListFigures:
    """Compute the metrics of recommended items.

    Args:
        dataset: The dataset of the queries.
        queries: n queries.
        top: [n, 10] item numbers, 0 for none.
        vectors: Text vectors of the items, [1 + N, d_L], or None.
    """
    known = Known.of(dataset.training_view(), vectors)
    everyone = np.ones(len(queries), dtype=bool)
    return {
        "domains": {
            name: list_metrics(top[rows], dataset.domains.range(number), known)
            for number, name, rows in _by_domain(dataset, queries, everyone)
        },
        "overall": list_metrics(top, range(1, dataset.domains.items + 1), known),
    }


def with_lists(measured: Measured, lists: ListFigures) -> Measured:
    """Return metrics of ranks together with those of lists."""
    return {
        "domains": {name: {**figures, **lists["domains"][name]} for name, figures in measured["domains"].items()},
        "overall": {**measured["overall"], **lists["overall"]},
        "groups": measured["groups"],
    }


def _by_domain(
    dataset: Dataset, queries: EvalQueries, members: np.ndarray
) -> Iterator[tuple[int, str, np.ndarray]]:
    for number, name in enumerate(dataset.domains.names):
        rows = np.flatnonzero(members & (queries.targets.domains == number))
        if len(rows):
            yield number, name, rows
