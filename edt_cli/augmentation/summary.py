"""What an augmentation says of itself: counts, tau, whom the insertions went to, cost."""

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
"""By target domain and KINDS."""
KINDS = ("with items", "without")
"""Of a user, by whether there are representatives in the target domain."""


def summarize(
    view: TrainingView,
    questions: Questions,
    cells: np.ndarray,
    result: Augmentation,
    taus: np.ndarray,
    usage: UsageStats,
) -> dict[str, Any]:
    """cells [Q], taus [2 D]: as in `filtering`. Lengths are of training prefixes; table 1's are of whole sequences,
    longer by `insertions_a_user` too."""
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
    """Whom the filter asked and helped, by target domain and kind of user and by r, and with how many different
    items."""
    names = view.domains.names
    kept = result.generated.filter("kept")
    users, targets = kept["user"].to_numpy(), kept["target"].to_numpy()
    cell_of = np.zeros((len(view.prefixes), len(names)), np.int64)
    cell_of[questions.users, questions.targets] = cells
    r = imbalance(view.prefixes.domain_counts(view.domains))[users]
    different = {name: kept.filter(target=domain)["item"].n_unique() for domain, name in enumerate(names)}

    asked = np.unique(cells).tolist()

    def table(values: np.ndarray) -> dict[str, dict[str, Any]]:
        """By domain and kind, without what is nan and kinds that nobody asked is of."""
        found: dict[str, dict[str, Any]] = {name: {} for name in names}
        for cell in asked:
            if not np.isnan(values[cell]):
                found[names[cell // 2]][KINDS[cell % 2]] = values[cell].item()
        return found

    return {
        "tau": table(taus),
        "asked_by_kind": table(np.bincount(cells, minlength=len(taus))),
        "inserted": table(np.bincount(cell_of[users, targets], minlength=len(taus))),
        "inserted_by_r": {label: int(inside.sum()) for label, inside in between(r, RATIOS).items()},
        "different_items": different,
        "warnings": _warnings(view, kept, different),
    }


def _warnings(view: TrainingView, kept: pl.DataFrame, different: dict[str, int]) -> list[str]:
    """A line for each domain where as many purchases, drawn at random from training, are expected to be of more
    than twice as many different items. So it counts how large and how skewed the domain is, and it is the same
    whether the LLM or the filter repeats itself."""
    found = []
    popularity = view.popularity()
    for domain, name in enumerate(view.domains.names):
        own = view.domains.range(domain)
        share = popularity[own.start : own.stop] / max(1, popularity[own.start : own.stop].sum())
        inserted = kept.filter(target=domain).height
        expected = float((1 - (1 - share) ** inserted).sum())
        if different[name] < expected / 2:
            found.append(
                f"the {inserted:,} insertions in {name} are of only {different[name]:,} different items; as many "
                f"purchases of its users would be of {expected:,.0f}"
            )
    return found
