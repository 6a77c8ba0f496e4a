"""Groups of users whose figures are reported apart."""

from __future__ import annotations

import numpy as np

from edt_cli.data.dataset import Dataset
from edt_cli.data.imbalance import INF, RATIOS, between, imbalance
from edt_cli.evaluation.queries import EvalQueries

LENGTHS = {"[0,5)": (0, 5), "[5,10)": (5, 10), "[10,15)": (10, 15), "[15,20)": (15, 20), "[20,inf)": (20, INF)}


def user_groups(dataset: Dataset, asked: EvalQueries, has_text: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """{group: {label: bool [n]}}: by length of the history (figure 4's edges), by r of the history, by whether the
    target has text, and by whether training holds the target. has_text: bool [1 + N]."""
    r = imbalance(asked.history.domain_counts(dataset.domains))
    seen = np.zeros(dataset.domains.items + 1, dtype=bool)
    seen[dataset.training_view().training_items] = True
    text, known = has_text[asked.targets.items], seen[asked.targets.items]
    return {
        "length": between(asked.history.lengths, LENGTHS),
        "r": between(r, RATIOS),
        "text": {"with text": text, "without text": ~text},
        "training": {"seen in training": known, "unseen in training": ~known},
    }
