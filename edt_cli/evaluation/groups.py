"""Groups of users whose figures are reported apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edt_cli.data.dataset import Dataset
from edt_cli.data.imbalance import imbalance
from edt_cli.evaluation.questions import Questions

INF = float("inf")
LENGTHS = {"[0,5)": (0, 5), "[5,10)": (5, 10), "[10,15)": (10, 15), "[15,20)": (15, 20), "[20,inf)": (20, INF)}
RATIOS = {"[0,0.5)": (0, 0.5), "[0.5,0.9)": (0.5, 0.9), "[0.9,0.95)": (0.9, 0.95), "[0.95,1]": (0.95, INF)}


def user_groups(dataset: Dataset, asked: Questions, has_text: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """{group: {label: bool [n]}}: by length of the history (figure 4's edges), by r of the history, by whether the
    target has text, and by whether training holds the target. has_text: bool [1 + N]."""
    r = imbalance(asked.history.domain_counts(dataset.domains))
    seen = np.zeros(dataset.domains.items + 1, dtype=bool)
    seen[dataset.training_view().training_items] = True
    text, known = has_text[asked.targets.items], seen[asked.targets.items]
    return {
        "length": _between(asked.history.lengths, LENGTHS),
        "r": _between(r, RATIOS),
        "text": {"with text": text, "without text": ~text},
        "training": {"seen in training": known, "unseen in training": ~known},
    }


def _between(values: np.ndarray, spans: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    return {label: (values >= low) & (values < high) for label, (low, high) in spans.items()}
