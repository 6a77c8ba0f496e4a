"""The questions of the augmenter, and the verdict of the filter on what they brought (eq. 4-6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.augmentation.clustering import Clusters, cluster_items
from edt_cli.augmentation.filtering import (
    Scores,
    cells_of,
    insertions_a_user,
    likely_items,
    passes,
    rank,
    score,
    thresholds,
)
from edt_cli.augmentation.generation import Generated, Questions, choose_questions
from edt_cli.augmentation.representatives import Representatives, find_representatives
from edt_cli.augmentation.summary import KINDS, Taus
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings

VERDICTS = {(True, True): "kept", (False, True): "rank", (True, False): "tau", (False, False): "rank and tau"}


@dataclass(frozen=True)
class Plan:
    """Questions to the LLM and what they are made of; `users` is the number of all users."""

    users: int
    clusters: Clusters
    representatives: Representatives
    questions: Questions

    @property
    def sampled_share(self) -> float:
        """Share of the users with questions who remain after `limit_users` takes a sample."""
        return len(np.unique(self.questions.users)) / max(1, self.questions.eligible)


def make_plan(
    view: TrainingView, embeddings: ItemEmbeddings, settings: AugmentationSettings, llm: LLMSettings
) -> Plan:
    """Find clusters and representatives, and choose the questions."""
    clusters = cluster_items(view, embeddings, settings.clusters, llm.seed)
    representatives = find_representatives(view, embeddings, clusters, settings.representative)
    questions = choose_questions(view, representatives, clusters, settings, llm)
    return Plan(len(view.prefixes), clusters, representatives, questions)


@dataclass(frozen=True)
class Judged:
    """What the filter makes of generated items [G].

    Attributes:
        usable: Whether an item reaches the filter.
        scores: Its scores (eq. 5).
        ranks: Its rank among the usable items of its question.
        cells: Cell of each question [Q].
        taus: Threshold of each cell [2 D], nan where there is none.
        tau: Threshold of each item.
        passed: Whether the filter keeps it.
        reasons: "kept", or why not.
    """

    usable: np.ndarray
    scores: Scores
    ranks: np.ndarray
    cells: np.ndarray
    taus: np.ndarray
    tau: np.ndarray
    passed: np.ndarray
    reasons: list[str]


def judge(
    view: TrainingView,
    embeddings: ItemEmbeddings,
    plan: Plan,
    generated: Generated,
    vectors: np.ndarray,
    settings: AugmentationSettings,
    known_tau: Taus,
) -> Judged:
    """Score generated items, find tau and filter them (eq. 5-6).

    Args:
        view: The training interactions.
        embeddings: Embeddings of the catalogue items.
        plan: The questions that the items answer.
        generated: The items, with numbers.
        vectors: Unit rows by those numbers.
        settings: Settings of the augmenter.
        known_tau: Thresholds that are used as they are.
    """
    questions, items, question_of = plan.questions, generated.items, generated.questions
    usable = np.array([reason is None for reason in generated.reasons], bool)
    catalogue = TrainingCatalogue(view, embeddings)
    likely = likely_items(questions, plan.representatives, catalogue)
    scores = score(vectors, items, question_of, questions, plan.representatives, likely, catalogue)
    ranks = rank(np.where(usable, question_of, -1), scores.source)
    cells = cells_of(questions, plan.representatives, len(view.domains))
    taus = _taus(view, plan, settings, cells, question_of[usable], ranks[usable], scores.target[usable], known_tau)
    tau = taus[cells[question_of]]
    near, close = passes(ranks, scores.target, tau, settings)
    verdicts = zip(generated.reasons, near.tolist(), close.tolist(), strict=True)
    return Judged(
        usable=usable,
        scores=scores,
        ranks=ranks,
        cells=cells,
        taus=taus,
        tau=tau,
        passed=usable & near & close,
        reasons=[reason or VERDICTS[near, close] for reason, near, close in verdicts],
    )


def anchors_named(plan: Plan, generated: Generated, judged: Judged) -> dict[str, int]:
    """Count the items whose reply names a purchase, and those whose cosine has the same purchase as its anchor."""
    questions, representatives = plan.questions, plan.representatives
    domains = (len(representatives.offsets) - 1) // max(1, plan.users)
    cells = (questions.users * domains + questions.sources)[generated.questions]
    starts, ends = representatives.offsets[cells], representatives.offsets[cells + 1]
    rows = starts + generated.purchases - 1
    named = judged.usable & (generated.purchases > 0) & (rows < ends)
    agree = representatives.positions[rows[named]] == judged.scores.anchors[named]
    return {"named": int(named.sum()), "agree": int(agree.sum())}


def _taus(
    view: TrainingView,
    plan: Plan,
    settings: AugmentationSettings,
    cells: np.ndarray,
    question_of: np.ndarray,
    ranks: np.ndarray,
    scores: np.ndarray,
    known: Taus,
) -> np.ndarray:
    """Return tau by cell, nan where there is none.

    `question_of`, `ranks` and `scores` are of the usable items.
    """
    taus = np.full(2 * len(view.domains), np.nan)
    if not settings.filter:
        return taus
    wanted = insertions_a_user(view.domains) * len(view.prefixes) * plan.sampled_share
    per_question = wanted / max(1, len(cells))
    calibrated = thresholds(settings.tau, cells, question_of, ranks <= settings.keep, scores, per_question)
    for cell, tau in calibrated.items():
        kinds = known.get(view.domains.names[cell // 2], {})
        taus[cell] = kinds.get(KINDS[cell % 2], tau)
    return taus
