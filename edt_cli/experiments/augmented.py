"""What the augmenter does to the data and to profiles, without training: table 6 and figure 1 of the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edt_cli.data.imbalance import imbalance
from edt_cli.pipeline.stages import Stages
from edt_cli.profiling.profiles import Profiles, similarity

INJECTED = (0.3, 0.6, 1.0)
"""Shares of the kept items that table 6 inserts."""
EDGES = np.linspace(0, 1, 11)


class Similarity(NamedTuple):
    """Mean cosine of profiles before and after augmentation, for a share of the kept items."""

    share: float
    of_all: float
    """Over all users with both profiles."""
    of_given: float | None
    """Over those of them who were given items; None if there is none."""
    given: int


def profile_similarity(stages: Callable[[bool, float], Stages]) -> list[Similarity]:
    """Compare the profiles of the original sequences with those of augmented ones (table 6).

    Args:
        stages: Stages with the augmenter on or off, and a share of the kept items that is inserted.
    """
    before = stages(False, 1.0).profiles()
    return [_similarity(before, stages(True, share), share) for share in INJECTED]


def _similarity(before: Profiles, augmented: Stages, share: float) -> Similarity:
    augmentation, cosines = augmented.augmentation(), similarity(before, augmented.profiles())
    both = ~np.isnan(cosines)
    given = np.zeros(len(cosines), bool)
    given[augmentation.sequences.users[augmentation.inserted]] = True
    count = int((given & both).sum())
    return Similarity(
        share=share,
        of_all=float(cosines[both].mean()),
        of_given=float(cosines[given & both].mean()) if count else None,
        given=count,
    )


def users_by_r(stages: Stages) -> tuple[np.ndarray, np.ndarray]:
    """Count users in ten bins of r before and after augmentation (figure 1): two [10]."""
    view, augmentation = stages.view, stages.augmentation()
    before = view.prefixes.domain_counts(view.domains)
    kept = augmentation.generated.filter("kept")
    after = before.copy()
    np.add.at(after, (kept["user"].to_numpy(), kept["target"].to_numpy()), 1)
    histograms = [np.histogram(imbalance(counts), EDGES)[0] for counts in (before, after)]
    return histograms[0], histograms[1]
