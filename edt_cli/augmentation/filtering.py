"""The noise filter (eq. 5-6) and the calibration of its thresholds tau."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.augmentation.generation import Questions
from edt_cli.augmentation.representatives import Representatives
from edt_cli.config import AugmentationSettings
from edt_cli.data.dataset import Domains, Numbers
from edt_cli.paper.facts import INSERTIONS_A_USER, OTHERWISE

# Table 1: average length after augmentation less that before.
PAIRS = 16_384
LIKELY = 10


@dataclass(frozen=True)
class Scores:
    """Eq. 5 for each generated item [G]: the highest cosine with the user's representatives of the source domain,
    `anchors` the position in the training prefix of the one that has it, and score^target. Of equal representatives
    the most recent one is the anchor.
    """

    source: np.ndarray
    anchors: np.ndarray
    target: np.ndarray


def cells_of(questions: Questions, representatives: Representatives, domains: int) -> np.ndarray:
    """[Q]: 2 * target domain, and 1 more where the user has no representatives there. In each such cell
    score^target is another kind of number, so each has a tau of its own."""
    targets = questions.users * domains + questions.targets
    cells: Numbers = 2 * questions.targets + (np.diff(representatives.offsets)[targets] == 0)
    return cells


def likely_items(
    questions: Questions, representatives: Representatives, catalogue: TrainingCatalogue
) -> np.ndarray:
    """[Q, 10]: the training items of the target domain that go best with the user's representatives of the source
    domain, by what users of both domains have; 0 where there are fewer, and in questions whose user has
    representatives in the target domain."""
    found = np.zeros((len(questions), LIKELY), np.int64)
    domains = len(catalogue.domains)
    cells = cells_of(questions, representatives, domains)
    for domain in range(domains):
        chosen = np.flatnonzero(cells == 2 * domain + 1)
        sources = questions.users[chosen] * domains + questions.sources[chosen]
        rows, places = representatives.of_all(sources)
        found[chosen] = catalogue.by_users.best(domain, places, representatives.items[rows], len(chosen), LIKELY)
    return found


def score(
    vectors: np.ndarray,
    items: np.ndarray,
    asked: np.ndarray,
    questions: Questions,
    representatives: Representatives,
    likely: np.ndarray,
    catalogue: TrainingCatalogue,
) -> Scores:
    """vectors: unit rows of catalogue items and, after them, generated ones; items [G]: the rows of the items to
    score; asked [G]: the questions that they answer; likely: `likely_items`.

    score^target is the highest cosine with the user's representatives in the target domain. A user who has none
    there is stood in for by those who are in both domains: it is the mean cosine with the `likely` items other than
    the item itself. Where nobody is in both it is the mean cosine with the item's ten nearest others in the domain.
    """
    domains = len(catalogue.domains)
    users, targets = questions.users[asked], questions.targets[asked]
    source, place = _best(vectors, items, users * domains + questions.sources[asked], representatives)
    target, own = _best(vectors, items, users * domains + targets, representatives)
    rows = np.flatnonzero(own < 0)
    target[rows] = _mean(vectors, items[rows], likely[asked[rows]])
    for domain in range(domains):
        rows = np.flatnonzero(np.isnan(target) & (targets == domain))
        unique, back = np.unique(items[rows], return_inverse=True)
        nearest, _ = catalogue.nearest(domain, vectors[unique], LIKELY + 1)
        target[rows] = _mean(vectors, unique, nearest)[back]
    return Scores(source, representatives.positions[place], np.nan_to_num(target, nan=0.0))


def _mean(vectors: np.ndarray, items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean cosine [n] of items [n] with the first ten of others [n, W] that are neither 0 nor the item itself;
    nan where there is none."""
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


def thresholds(
    tau: float | str,
    cells: np.ndarray,
    asked: np.ndarray,
    ranked: np.ndarray,
    scores: np.ndarray,
    a_question: float,
) -> dict[int, float]:
    """tau as a cosine for each cell that was asked; a cell without anything to calibrate it on has none.

    cells [Q]: `cells_of`; asked, ranked, scores [G]: of the generated items their question, whether rank <= k, and
    score^target. `q0.80` is that quantile of the scores of a cell's items. `paper`: of a cell's items with `ranked`
    the best are kept, `a_question` of them for each question, at least one (all, where there are fewer).
    """
    found: dict[int, float] = {}
    for cell in np.unique(cells).tolist():
        mine = cells[asked] == cell
        candidates = np.sort(scores[mine & ranked])[::-1]
        if isinstance(tau, float):
            found[cell] = tau
        elif len(candidates) and tau == "paper":
            wanted = max(1, round(a_question * int((cells == cell).sum())))
            found[cell] = float(candidates[min(wanted, len(candidates)) - 1])
        elif len(candidates):
            found[cell] = float(np.quantile(scores[mine], float(tau[1:])))
    return found


def insertions_a_user(domains: Domains) -> float:
    """Table 1's figure for a pair of domains."""
    return INSERTIONS_A_USER.get(frozenset(domains.names), OTHERWISE)


def passes(
    ranks: np.ndarray, target_scores: np.ndarray, taus: np.ndarray, settings: AugmentationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The two conditions of eq. 6, rank <= k and score^target >= tau, each bool [G].

    taus [G]: nan where the item's cell has none. Both are true of all items without filtering (`w/o Filtering`).
    """
    if not settings.filter:
        return np.ones(len(ranks), bool), np.ones(len(ranks), bool)
    return ranks <= settings.keep, ~(target_scores < taus)
