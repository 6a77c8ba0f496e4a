"""Names of training phases. This module does not import torch, since results are read by them, too."""

from __future__ import annotations

from collections.abc import Iterable

PREPARATION = "preparation"
"""Name of a phase that trains another model first, which the main model starts from."""
PRETRAINING = "pre-training"
"""Name of a system's main phase unless it gives it another, and the only phase of most."""


def main_phase(names: Iterable[str]) -> str:
    """Return the first phase that trains the model itself: what a first phase is judged by."""
    return next(name for name in names if name != PREPARATION)
