"""Similarity of users' profiles before and after augmentation: table 6."""

from __future__ import annotations

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.pipeline import Pipeline
from edt_cli.profiling.profiles import Profiles
from edt_cli.workspace.documents import Similarity


def profile_similarity(before: Pipeline, after: Pipeline, share: str, *, synthetic: bool) -> Similarity:
    """Return the mean cosine of profiles of the original sequences with those of augmented ones.

    A profile here is the vector of its text, as L_align reads it. Users without one of the two are left out.

    Args:
        before: Stages of the original sequences.
        after: Stages of the sequences with a share of the kept items.
        share: Name of that share.
        synthetic: Whether the data is made up.
    """
    found: Similarity = {
        "data": after.dataset.name,
        "synthetic": synthetic,
        "quick": bool(after.dataset.sample_of),
        "llm": after.llm_name,
        "share": share,
        "users": None,
        "given": None,
        "of_all": None,
        "of_given": None,
    }
    if not (before.made("profiles") and after.made("profiles")):
        return found
    cosines = _cosines(before.profiles(), after.profiles())
    both, given = ~np.isnan(cosines), _given(after.augmentation(), len(cosines))
    return {
        **found,
        "users": int(both.sum()),
        "given": int((both & given).sum()),
        "of_all": _mean(cosines[both]),
        "of_given": _mean(cosines[both & given]),
    }


def _cosines(before: Profiles, after: Profiles) -> np.ndarray:
    """Return the cosine of each user's two profiles [U], nan where one is missing."""
    cosines = np.einsum("ud,ud->u", before.vectors, after.vectors, dtype=np.float64)
    return np.where(before.has_profile & after.has_profile, cosines, np.nan)


def _given(augmentation: Augmentation, users: int) -> np.ndarray:
    """Return which users were given items, bool [U]."""
    given = np.zeros(users, bool)
    given[augmentation.sequences.users[augmentation.inserted]] = True
    return given


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
