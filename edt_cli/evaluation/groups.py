"""Groups of users whose metrics are reported separately."""

from __future__ import annotations

import numpy as np

from edt_cli.data.dataset import Dataset
from edt_cli.data.imbalance import INF, RATIOS, between, imbalance
from edt_cli.evaluation.queries import EvalQueries

LENGTHS = {"[0,5)": (0, 5), "[5,10)": (5, 10), "[10,15)": (10, 15), "[15,20)": (15, 20), "[20,inf)": (20, INF)}


def user_groups(dataset: Dataset, queries: EvalQueries, has_text: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Group the queries by properties of the history and of the target.

    The groups are the length of the history, the user's number of interactions (figure 4), r of the history,
    whether the target has text, and whether the target occurs in training.

    Args:
        dataset: The dataset of the queries.
        queries: n queries.
        has_text: bool [1 + N].

    Returns:
        {group: {label: bool [n]}}.
    """
    r = imbalance(queries.history.domain_counts(dataset.domains))
    trained = np.zeros(dataset.domains.items + 1, dtype=bool)
    trained[dataset.training_view().training_items] = True
    text, in_training = has_text[queries.targets.items], trained[queries.targets.items]
    return {
        "length": between(queries.history.lengths, LENGTHS),
        "total": between(dataset.sequences.lengths[queries.targets.users], LENGTHS),
        "r": between(r, RATIOS),
        "text": {"with text": text, "without text": ~text},
        "training": {"seen in training": in_training, "unseen in training": ~in_training},
    }
