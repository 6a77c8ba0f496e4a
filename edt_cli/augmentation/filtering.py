"""The noise filter (eq. 5-6) and the calibration of its thresholds tau."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.augmentation.generation import Questions
from edt_cli.augmentation.representatives import Representatives
from edt_cli.config import AugmentationSettings
from edt_cli.data.dataset import Domains, Numbers
from edt_cli.paper.facts import INSERTIONS_PER_USER, OTHER_INSERTIONS_PER_USER

PAIRS = 16_384
"""Pairs of vectors that are multiplied at a time."""
LIKELY = 10
"""Items of the target domain that stand in for a user who has none there."""


@dataclass(frozen=True)
class Scores:
    """Scores of eq. 5 for each generated item [G].

    Attributes:
        source: score^source, the highest cosine with the user's representatives in the source domain.
        anchors: Position in the training prefix of the representative with that cosine; of equal ones the most
            recent.
        target: score^target.
    """

    source: np.ndarray
    anchors: np.ndarray
    target: np.ndarray


def cells_of(questions: Questions, representatives: Representatives, domains: int) -> np.ndarray:
    """Return the cell [Q] of each question.

    It is 2 * target domain, plus 1 if the user has no representatives there. score^target is computed differently
    for the two kinds of users, so each cell has a tau.
    """
    targets = questions.users * domains + questions.targets
    cells: Numbers = 2 * questions.targets + (np.diff(representatives.offsets)[targets] == 0)
    return cells


def likely_items(
    questions: Questions, representatives: Representatives, catalogue: TrainingCatalogue
) -> np.ndarray:
    """Return the items [Q, 10] that stand in for a user without representatives in the target domain.

    They are the training items of the target domain that best go with the user's representatives in the source
    domain, counted over users of both domains. 0 where there are fewer, and for users who have representatives in
    the target domain.
    """
    likely = np.zeros((len(questions), LIKELY), np.int64)
    domains = len(catalogue.domains)
    cells = cells_of(questions, representatives, domains)
    for domain in range(domains):
        chosen = np.flatnonzero(cells == 2 * domain + 1)
        sources = questions.users[chosen] * domains + questions.sources[chosen]
        rows, question_rows = representatives.of_all(sources)
        likely[chosen] = catalogue.by_users.best(
            domain, question_rows, representatives.items[rows], len(chosen), LIKELY
        )
    return likely


def score(
    vectors: np.ndarray,
    items: np.ndarray,
    question_of: np.ndarray,
    questions: Questions,
    representatives: Representatives,
    likely: np.ndarray,
    catalogue: TrainingCatalogue,
) -> Scores:
    """Score generated items (eq. 5).

    score^target is the highest cosine with the user's representatives in the target domain. For a user without any
    it is the mean cosine with the `likely` items other than the item itself; if there are none, because nobody is
    in both domains, the mean cosine with the ten other items of the domain that are nearest to the item.

    Args:
        vectors: Unit rows of the catalogue items, followed by those of the generated items.
        items: Rows of the items to score [G].
        question_of: Questions that the items answer [G].
        questions: The questions.
        representatives: Representatives of each user and domain.
        likely: Items from `likely_items` [Q, 10].
        catalogue: Training items, to find the nearest.
    """
    domains = len(catalogue.domains)
    users, targets = questions.users[question_of], questions.targets[question_of]
    source, anchor_rows = _best(vectors, items, users * domains + questions.sources[question_of], representatives)
    target, target_rows = _best(vectors, items, users * domains + targets, representatives)
    rows = np.flatnonzero(target_rows < 0)
    target[rows] = _mean(vectors, items[rows], likely[question_of[rows]])
    for domain in range(domains):
        rows = np.flatnonzero(np.isnan(target) & (targets == domain))
        unique, back = np.unique(items[rows], return_inverse=True)
        nearest, _ = catalogue.nearest(domain, vectors[unique], LIKELY + 1)
        target[rows] = _mean(vectors, unique, nearest)[back]
    return Scores(source, representatives.positions[anchor_rows], np.nan_to_num(target, nan=0.0))


def _mean(vectors: np.ndarray, items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean cosine [n] of items [n] with others [n, W]; nan where there are none.

    Of the others that are neither 0 nor the item itself, the first ten count.
    """
    counted = (others > 0) & (others != items[:, None])
    counted &= np.cumsum(counted, axis=1) <= LIKELY
    cosines = np.zeros(others.shape, np.float32)
    for part in np.array_split(np.arange(len(items)), 1 + others.size // PAIRS):
        cosines[part] = np.einsum("nd,nwd->nw", vectors[items[part]], vectors[others[part]])
    sizes = counted.sum(1)
    sums = np.where(counted, cosines, 0).sum(1)
    means = np.full(len(items), np.nan)
    np.divide(sums, sizes, out=means, where=sizes > 0)
    return means


def _best(
    vectors: np.ndarray, items: np.ndarray, cells: np.ndarray, representatives: Representatives
) -> tuple[np.ndarray, np.ndarray]:
    """Return each item's highest cosine with the representatives of its cell, and the best one's row.

    The row is -1 for an empty cell.
    """
    starts = representatives.offsets[cells]
    sizes = representatives.offsets[cells + 1] - starts
    best = np.full(len(cells), -np.inf)
    rows = np.full(len(cells), -1)
    filled = np.flatnonzero(sizes)
    for part in np.array_split(filled, 1 + sizes.sum() // PAIRS) if len(filled) else []:
        ends = np.cumsum(sizes[part])
        segments = ends - sizes[part]
        owners = np.repeat(part, sizes[part])
        row = np.arange(ends[-1]) - np.repeat(segments - starts[part], sizes[part])
        cosines = np.einsum("nd,nd->n", vectors[items[owners]], vectors[representatives.items[row]])
        best[part] = np.maximum.reduceat(cosines, segments)
        rows[part] = np.maximum.reduceat(np.where(cosines == best[owners], row, -1), segments)
    return best, rows


def rank(question_of: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rank the items of each question by score^source (eq. 6): 1 is the highest, ties in their order."""
    order = np.lexsort((np.arange(len(question_of)), -scores, question_of))
    ordered = question_of[order]
    ranks = np.zeros(len(question_of), np.int64)
    ranks[order] = 1 + np.arange(len(question_of)) - np.searchsorted(ordered, ordered, side="left")
    return ranks


def thresholds(
    tau: float | str,
    cells: np.ndarray,
    question_of: np.ndarray,
    ranked: np.ndarray,
    scores: np.ndarray,
    per_question: float,
) -> dict[int, float]:
    """Return the threshold tau, a cosine, of each cell with questions.

    A cell without items to calibrate on has none.

    Args:
        tau: A cosine; or a quantile such as `q0.80` of the scores of a cell's items; or `paper`, which keeps the
            best `ranked` items of a cell: `per_question` for each question, but at least one (all if there are
            fewer). `paper+0.05` is that threshold plus 0.05.
        cells: Cell of each question [Q], from `cells_of`.
        question_of: Question of each generated item [G].
        ranked: Whether rank <= k, for each generated item [G].
        scores: score^target of each generated item [G].
        per_question: Items to keep per question under `paper`.
    """
    taus: dict[int, float] = {}
    for cell in np.unique(cells).tolist():
        in_cell = cells[question_of] == cell
        candidates = np.sort(scores[in_cell & ranked])[::-1]
        if isinstance(tau, float):
            taus[cell] = tau
        elif len(candidates) and tau.startswith("paper"):
            wanted = max(1, round(per_question * int((cells == cell).sum())))
            offset = float(tau.removeprefix("paper") or 0)
            taus[cell] = float(candidates[min(wanted, len(candidates)) - 1]) + offset
        elif len(candidates):
            taus[cell] = float(np.quantile(scores[in_cell], float(tau[1:])))
    return taus


def insertions_a_user(domains: Domains) -> float:
    """Return the average number of insertions per user in table 1 for a pair of domains."""
    return INSERTIONS_PER_USER.get(frozenset(domains.names), OTHER_INSERTIONS_PER_USER)


def passes(
    ranks: np.ndarray, target_scores: np.ndarray, taus: np.ndarray, settings: AugmentationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two conditions of eq. 6, rank <= k and score^target >= tau, each bool [G].

    A tau [G] is nan if the item's cell has none. Without filtering (`w/o Filtering`) both hold for all items.
    """
    if not settings.filter:
        return np.ones(len(ranks), bool), np.ones(len(ranks), bool)
    return ranks <= settings.keep, ~(target_scores < taus)
