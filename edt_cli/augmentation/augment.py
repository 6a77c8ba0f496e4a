"""The augmenter from end to end: cluster, generate, filter, insert (section 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from edt_backends.base import ChatBackend, ChatRequest, EmbeddingBackend
from edt_cli.augmentation.artefact import GENERATED, SOURCES, Augmentation
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
from edt_cli.augmentation.generation import (
    Generated,
    Questions,
    Reply,
    choose_questions,
    collect,
    generation_requests,
    no_items,
)
from edt_cli.augmentation.identity import identify, renumber
from edt_cli.augmentation.insertion import choose_injected, choose_positions, insert
from edt_cli.augmentation.representatives import Representatives, find_representatives
from edt_cli.augmentation.summary import KINDS, Taus, summarize
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.ask import Failed, UsageStats, ask
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.workspace.events import Events

VERDICTS = {(True, True): "kept", (False, True): "rank", (True, False): "tau", (False, False): "rank and tau"}
NOT_INJECTED = "not injected"


def planned_requests(
    view: TrainingView, embeddings: ItemEmbeddings, settings: AugmentationSettings, llm: LLMSettings
) -> Iterator[ChatRequest]:
    """Yield every request that `augment` would send, to count and price them beforehand."""
    if settings.enabled:
        plan = _plan(view, embeddings, settings, llm)
        yield from generation_requests(view, plan.questions, plan.representatives, plan.clusters, settings, llm)


def augment(
    view: TrainingView,
    embeddings: ItemEmbeddings,
    settings: AugmentationSettings,
    llm: LLMSettings,
    chat: ChatBackend,
    embedder: EmbeddingBackend,
    events: Events,
    known_tau: Taus | None = None,
) -> Augmentation:
    """Augment the training sequence of every user (S_aug).

    Args:
        view: The training interactions.
        embeddings: Embeddings of the catalogue items.
        settings: Settings of the augmenter.
        llm: Settings of the LLM.
        chat: The LLM.
        embedder: Embedder for the generated texts, fitted like that of the catalogue items.
        events: Where progress is reported.
        known_tau: Thresholds that a pilot calibrated (`summary["tau"]`). They are used again, so that what the
            pilot paid for stays as it was; the others are calibrated.

    Returns:
        The augmented sequences and the record of how they were made.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops the stage.
    """
    if not settings.enabled:
        return Augmentation.none(view)
    plan = _plan(view, embeddings, settings, llm)
    questions = plan.questions
    requests = generation_requests(view, questions, plan.representatives, plan.clusters, settings, llm)
    usage, answers = UsageStats(), Spool(len(questions))

    async def answer(number: int, request: ChatRequest) -> None:
        reply = await ask(chat, request, Reply, usage, no_items)
        answers.put(number, [reply.reason, reply.detail] if isinstance(reply, Failed) else reply.model_dump())

    jobs = (partial(answer, number, request) for number, request in enumerate(requests))
    progress = StageProgress(events, "augment", len(questions), chat, usage)
    asyncio.run(work(jobs, llm.concurrency, events, progress))
    replies = (Failed(*kept) if isinstance(kept, list) else Reply.model_validate(kept) for kept in answers)
    generated = collect(view, questions, replies, settings)
    generated, pseudo, vectors = identify(view, embeddings, generated, questions, settings, embedder, events)

    items, question_of = generated.items, generated.questions
    usable = np.array([reason is None for reason in generated.reasons], bool)
    catalogue = TrainingCatalogue(view, embeddings)
    likely = likely_items(questions, plan.representatives, catalogue)
    scores = score(vectors, items, question_of, questions, plan.representatives, likely, catalogue)
    ranks = rank(np.where(usable, question_of, -1), scores.source)
    cells = cells_of(questions, plan.representatives, len(view.domains))
    taus = _taus(
        view, plan, settings, cells, question_of[usable], ranks[usable], scores.target[usable], known_tau or {}
    )
    near, close = passes(ranks, scores.target, taus[cells[question_of]], settings)
    users = questions.users[question_of]
    slots = questions.targets[question_of] * settings.ask + generated.positions
    injected = choose_injected(settings.injected, len(view.prefixes), users, slots, llm.seed)
    kept = usable & near & close & injected

    pseudo, pseudo_vectors, new_number = renumber(pseudo, vectors, items[kept])
    gaps = choose_positions(
        settings.insertion, view.prefixes.lengths, users[kept], scores.anchors[kept], slots[kept], llm.seed
    )

    sequences, inserted = insert(view.prefixes, users[kept], gaps, scores.source[kept], new_number[items[kept]])
    verdicts = zip(near.tolist(), close.tolist(), strict=True)
    reasons = [
        reason or (NOT_INJECTED if all(verdict) and not chosen else VERDICTS[verdict])
        for reason, verdict, chosen in zip(generated.reasons, verdicts, injected.tolist(), strict=True)
    ]
    result = Augmentation(
        sequences=sequences,
        inserted=inserted,
        pseudo=pseudo,
        pseudo_vectors=pseudo_vectors,
        generated=_generated(
            questions, generated, new_number[items], scores, ranks, taus[cells[question_of]], usable, kept, reasons
        ),
        sources=_sources(view, plan),
        failures=generated.failures,
    )
    return replace(result, summary=summarize(view, questions, cells, result, taus, usage))


def _taus(
    view: TrainingView,
    plan: _Plan,
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


@dataclass(frozen=True)
class _Plan:
    clusters: Clusters
    representatives: Representatives
    questions: Questions

    @property
    def sampled_share(self) -> float:
        """Share of the users with questions who remain after `limit_users` takes a sample."""
        return len(np.unique(self.questions.users)) / max(1, self.questions.eligible)


def _plan(
    view: TrainingView, embeddings: ItemEmbeddings, settings: AugmentationSettings, llm: LLMSettings
) -> _Plan:
    clusters = cluster_items(view, embeddings, settings.clusters, llm.seed)
    representatives = find_representatives(view, embeddings, clusters, settings.representative)
    questions = choose_questions(view, representatives, clusters, settings, llm)
    return _Plan(clusters, representatives, questions)


def _generated(
    questions: Questions,
    generated: Generated,
    items: np.ndarray,
    scores: Scores,
    ranks: np.ndarray,
    taus: np.ndarray,
    usable: np.ndarray,
    kept: np.ndarray,
    reasons: list[str],
) -> pl.DataFrame:
    question_of = generated.questions
    frame = pl.DataFrame(
        {
            "user": questions.users[question_of],
            "source": questions.sources[question_of],
            "target": questions.targets[question_of],
            "item": items,
            "title": generated.fields["title"],
            "anchor": scores.anchors,
            "score_source": scores.source,
            "score_target": scores.target,
            "rank": ranks,
            "tau": taus,
            "kept": kept,
            "reason": reasons,
        },
        schema=GENERATED,
    )
    judged = ("anchor", "score_source", "score_target", "rank", "tau")
    return frame.with_columns(pl.col("tau").fill_nan(None)).with_columns(
        pl.col("item").replace(0, None), *(pl.when(pl.Series(usable)).then(name).alias(name) for name in judged)
    )


def _sources(view: TrainingView, plan: _Plan) -> pl.DataFrame:
    questions, representatives = plan.questions, plan.representatives
    cells = questions.users * len(view.domains) + questions.sources
    rows, question_of = representatives.of_all(cells)
    frame = pl.DataFrame(
        {
            "user": questions.users[question_of],
            "position": representatives.positions[rows],
            "item": representatives.items[rows],
        },
        schema=SOURCES,
    )
    return frame.unique(maintain_order=True)
