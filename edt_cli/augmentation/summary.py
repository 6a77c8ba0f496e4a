"""Summary of an augmentation: counts, tau, which users got insertions, cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.generation import Questions
from edt_cli.data.dataset import TrainingView
from edt_cli.data.imbalance import RATIOS, between, imbalance
from edt_cli.llm.ask import UsageStats

Taus = dict[str, dict[str, float]]
"""Thresholds tau by target domain and KINDS."""
KINDS = ("with items", "without")
"""Kinds of users: with or without representatives in the target domain."""


def summarize(
    view: TrainingView,
    questions: Questions,
    cells: np.ndarray,
    result: Augmentation,
    taus: np.ndarray,
    usage: UsageStats,
) -> dict[str, Any]:
    """Summarize an augmentation as JSON values.

    Lengths are of training prefixes; those of table 1 are of whole sequences, which grow by `insertions_a_user`
    too.

    Args:
        view: The training interactions.
        questions: Questions to the LLM.
        cells: Cell of each question [Q], from `filtering.cells_of`.
        result: The augmentation.
        taus: tau of each cell [2 D].
        usage: Usage of the LLM.
    """
    users, generated, kept = len(view.prefixes), len(result.generated), int(result.inserted.sum())
    names = view.domains.names
    pseudo = np.bincount(result.pseudo["domain"].to_numpy(), minlength=len(names)).tolist()
    items = {name: len(view.domains.range(domain)) for domain, name in enumerate(names)}
    return {
        "users": users,
        "eligible_users": questions.eligible,
        "users_without_text": questions.without_text,
        "asked_users": len(np.unique(questions.users)),
        "asked": len(questions),
        "failed": dict(Counter(result.failures["reason"]).most_common()),
        "generated": generated,
        "kept": kept,
        "reasons": dict(Counter(result.generated["reason"]).most_common()),
        "share_kept": kept / max(1, generated),
        **_spread(view, questions, cells, result, taus),
        "insertions_a_user": kept / max(1, users),
        "items_before": items,
        "items_after": {name: items[name] + pseudo[domain] for domain, name in enumerate(names)},
        "average_length_before": len(view.prefixes.items) / max(1, users),
        "average_length_after": len(result.sequences.items) / max(1, users),
        "llm": usage.summary(),
    }


def _spread(
    view: TrainingView, questions: Questions, cells: np.ndarray, result: Augmentation, taus: np.ndarray
) -> dict[str, Any]:
    """Count questions and insertions by target domain and kind of user, and by r; count different items."""
    names = view.domains.names
    kept = result.generated.filter("kept")
    users, targets = kept["user"].to_numpy(), kept["target"].to_numpy()
    cell_of = np.zeros((len(view.prefixes), len(names)), np.int64)
    cell_of[questions.users, questions.targets] = cells
    r = imbalance(view.prefixes.domain_counts(view.domains))[users]
    different = {name: kept.filter(target=domain)["item"].n_unique() for domain, name in enumerate(names)}

    cells_with_questions = np.unique(cells).tolist()

    def table(values: np.ndarray) -> dict[str, dict[str, Any]]:
        """Arrange values by domain and kind, without nan and without cells that have no question."""
        by_domain: dict[str, dict[str, Any]] = {name: {} for name in names}
        for cell in cells_with_questions:
            if not np.isnan(values[cell]):
                by_domain[names[cell // 2]][KINDS[cell % 2]] = values[cell].item()
        return by_domain

    return {
        "tau": table(taus),
        "asked_by_kind": table(np.bincount(cells, minlength=len(taus))),
        "inserted": table(np.bincount(cell_of[users, targets], minlength=len(taus))),
        "inserted_by_r": {label: int(inside.sum()) for label, inside in between(r, RATIOS).items()},
        "different_items": different,
        "warnings": _warnings(view, kept, different),
    }


def _warnings(view: TrainingView, kept: pl.DataFrame, different: dict[str, int]) -> list[str]:
    """Warn about each domain whose insertions have too few different items.

    These are fewer than half of what is expected of the same number of purchases drawn at random from training. The
    measure takes into account how large and how skewed the domain is, and does not depend on whether the LLM or the
    filter causes the repetition.
    """
    warnings = []
    popularity = view.popularity()
    for domain, name in enumerate(view.domains.names):
        items = view.domains.range(domain)
        share = popularity[items.start : items.stop] / max(1, popularity[items.start : items.stop].sum())
        inserted = kept.filter(target=domain).height
        expected = float((1 - (1 - share) ** inserted).sum())
        if different[name] < expected / 2:
            warnings.append(
                f"the {inserted:,} insertions in {name} are of only {different[name]:,} different items; the same "
                f"number of purchases by its users would be of about {expected:,.0f}"
            )
    return warnings
