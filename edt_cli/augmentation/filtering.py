"""The noise filter (eq. 5-6) and the calibration of its threshold tau."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edt_cli.augmentation.clustering import Clusters
from edt_cli.augmentation.generation import Questions
from edt_cli.augmentation.representatives import Representatives
from edt_cli.config import AugmentationSettings
from edt_cli.data.dataset import Domains

# Table 1: average length after augmentation less that before.
INSERTIONS_A_USER = {
    frozenset({"cloth", "sport"}): 0.33,
    frozenset({"elec", "phone"}): 0.21,
    frozenset({"food", "kitchen"}): 0.34,
}
OTHERWISE = 0.33
PAIRS = 16_384


@dataclass(frozen=True)
class Scores:
    """Eq. 5 for each generated item [G]: the highest cosine with the user's representatives of the source domain,
    `anchors` the position in the training prefix of the one that has it, and the highest with those of the
    target domain. Of equal representatives the most recent one is the anchor.
    """

    source: np.ndarray
    anchors: np.ndarray
    target: np.ndarray


def score(
    vectors: np.ndarray,
    items: np.ndarray,
    asked: np.ndarray,
    questions: Questions,
    representatives: Representatives,
    clusters: Clusters,
) -> Scores:
    """vectors: unit rows of catalogue items and, after them, generated ones; items [G]: the rows of the items to
    score; asked [G]: the questions that they answer.

    A user without representatives in the target domain is compared with the medoids of its catalogue.
    """
    domains = len(clusters.medoids)
    users, targets = questions.users[asked], questions.targets[asked]
    source, place = _best(vectors, items, users * domains + questions.sources[asked], representatives)
    target, own = _best(vectors, items, users * domains + targets, representatives)
    for domain, medoids in enumerate(clusters.medoids):
        rows = np.flatnonzero((own < 0) & (targets == domain))
        for part in np.array_split(rows, 1 + len(rows) // PAIRS) if len(rows) else []:
            target[part] = (vectors[items[part]] @ vectors[medoids].T).max(1)
    return Scores(source, representatives.positions[place], target)


def _best(
    vectors: np.ndarray, items: np.ndarray, cells: np.ndarray, representatives: Representatives
) -> tuple[np.ndarray, np.ndarray]:
    """Highest cosine of each item with the representatives of its cell, and their row; -1 for an empty cell."""
    starts = representatives.offsets[cells]
    sizes = representatives.offsets[cells + 1] - starts
    best = np.full(len(cells), -np.inf)
    rows = np.full(len(cells), -1)
    filled = np.flatnonzero(sizes)
    for part in np.array_split(filled, 1 + sizes.sum() // PAIRS) if len(filled) else []:
        ends = np.cumsum(sizes[part])
        segments = ends - sizes[part]
        mine = np.repeat(part, sizes[part])
        row = np.arange(ends[-1]) - np.repeat(segments - starts[part], sizes[part])
        cosines = np.einsum("nd,nd->n", vectors[items[mine]], vectors[representatives.items[row]])
        best[part] = np.maximum.reduceat(cosines, segments)
        rows[part] = np.maximum.reduceat(np.where(cosines == best[mine], row, -1), segments)
    return best, rows


def rank(asked: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """rank(score^source) of eq. 6 among the items of one question: 1 is the highest, equals in their order."""
    order = np.lexsort((np.arange(len(asked)), -scores, asked))
    ordered = asked[order]
    ranks = np.zeros(len(asked), np.int64)
    ranks[order] = 1 + np.arange(len(asked)) - np.searchsorted(ordered, ordered, side="left")
    return ranks


def threshold(
    tau: float | str, ranked: np.ndarray, target_scores: np.ndarray, domains: Domains, asked_for: float
) -> float | None:
    """tau as a cosine; None where there is nothing to calibrate it on.

    `q0.80` is that quantile of the score^target of all generated items [G]. `paper` is the cosine at which the
    insertions are table 1's a user: of the items with `ranked` (rank <= k) the best by score^target are kept,
    table 1's figure times `asked_for` of them, at least one (all, where there are fewer).
    asked_for: the users of the dataset; of a pilot, that number times the share of the eligible users that it
    asked, so that its value suits the rest.
    """
    if isinstance(tau, float):
        return tau
    candidates = np.sort(target_scores[ranked])[::-1]
    if not len(candidates):
        return None
    if tau != "paper":
        return float(np.quantile(target_scores, float(tau[1:])))
    wanted = max(1, round(INSERTIONS_A_USER.get(frozenset(domains.names), OTHERWISE) * asked_for))
    return float(candidates[min(wanted, len(candidates)) - 1])


def passes(
    ranks: np.ndarray, target_scores: np.ndarray, tau: float | None, settings: AugmentationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The two conditions of eq. 6, rank <= k and score^target >= tau, each bool [G].

    Both are true of all items without filtering (`w/o Filtering`), and where there is no tau.
    """
    if tau is None or not settings.filter:
        return np.ones(len(ranks), bool), np.ones(len(ranks), bool)
    return ranks <= settings.keep, target_scores >= tau
