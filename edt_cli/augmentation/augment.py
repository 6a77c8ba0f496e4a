"""The augmenter from end to end: cluster, generate, filter, insert (section 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl

from edt_backends.base import ChatBackend, ChatRequest, EmbeddingBackend
from edt_cli.augmentation.artefact import GENERATED, SOURCES, Augmentation
from edt_cli.augmentation.generation import (
    LIMITS,
    Generated,
    Questions,
    Reply,
    collect,
    generation_requests,
    no_items,
)
from edt_cli.augmentation.identity import identify, renumber
from edt_cli.augmentation.insertion import choose_injected, choose_positions, insert
from edt_cli.augmentation.summary import Taus, summarize
from edt_cli.augmentation.verdicts import Judged, Plan, anchors_named, judge, make_plan
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.ask import Failed, UsageStats, ask, clean
from edt_cli.llm.content import Content
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.llm.prompt_set import Prompts
from edt_cli.llm.shards import Shard
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.workspace.events import Events

NOT_INJECTED = "not injected"


def planned_requests(
    view: TrainingView, embeddings: ItemEmbeddings, settings: AugmentationSettings, llm: LLMSettings
) -> Iterator[ChatRequest]:
    """Yield every request that `augment` would send, to count and price them beforehand."""
    if settings.enabled:
        plan = make_plan(view, embeddings, settings, llm)
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
        known_tau: Thresholds that an earlier attempt at the same users calibrated (`summary["tau"]`). They are used
            again, so that what follows on its replies stays as it was; the others are calibrated.

    Returns:
        The augmented sequences and the record of how they were made.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops the stage.
    """
    if not settings.enabled:
        return Augmentation.none(view)
    plan = make_plan(view, embeddings, settings, llm)
    questions, usage, content = plan.questions, UsageStats(), Content()
    answers = _ask(view, plan, settings, llm, chat, events, usage, content)
    replies = (Failed(*kept) if isinstance(kept, list) else Reply.model_validate(kept) for kept in answers)
    generated = collect(view, questions, replies, settings)
    generated, pseudo, vectors = identify(view, embeddings, generated, questions, settings, embedder, events)
    items, question_of = generated.items, generated.questions
    users = questions.users[question_of]
    slots = questions.targets[question_of] * settings.ask + generated.positions
    judged = judge(view, embeddings, plan, generated, vectors, settings, known_tau or {})
    injected = choose_injected(settings.injected, len(view.prefixes), users, slots, llm.seed)
    kept = judged.passed & injected

    pseudo, pseudo_vectors, new_number = renumber(pseudo, vectors, items[kept])
    gaps = choose_positions(
        settings.insertion, view.prefixes.lengths, users[kept], judged.scores.anchors[kept], slots[kept], llm.seed
    )
    sequences, inserted = insert(
        view.prefixes, users[kept], gaps, judged.scores.source[kept], new_number[items[kept]]
    )
    reasons = [
        NOT_INJECTED if passed and not chosen else reason
        for reason, passed, chosen in zip(judged.reasons, judged.passed.tolist(), injected.tolist(), strict=True)
    ]
    result = Augmentation(
        sequences=sequences,
        inserted=inserted,
        pseudo=pseudo,
        pseudo_vectors=pseudo_vectors,
        generated=_generated(questions, generated, new_number[items], judged, kept, reasons),
        sources=_sources(view, plan),
        failures=generated.failures,
    )
    summary = summarize(view, questions, judged.cells, result, judged.taus, usage)
    named = anchors_named(plan, generated, judged)
    summary |= {"anchors": named} if named["named"] else {}
    if content.texts:
        summary["content"] = content.summary()
        summary["warnings"] += content.warnings("generated titles")
    if plan.sampled_share < 1 and settings.filter and not isinstance(settings.tau, float):
        summary["calibrated_on"] = summary["asked_users"]
    return replace(result, summary=summary)


def ask_shard(
    view: TrainingView,
    embeddings: ItemEmbeddings,
    settings: AugmentationSettings,
    llm: LLMSettings,
    chat: ChatBackend,
    events: Events,
    shard: Shard,
) -> tuple[Questions, UsageStats]:
    """Ask what `augment` would ask about the users of a shard, and leave the replies to the cache.

    Returns:
        The questions, and what their replies were.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops the stage.
    """
    plan = make_plan(view, embeddings, settings, llm)
    mine = shard.among(plan.questions.users, view.user_ids)
    questions = plan.questions.only(mine)
    usage = UsageStats()
    _ask(view, replace(plan, questions=questions), settings, llm, chat, events, usage, Content())
    return questions, usage


def _ask(
    view: TrainingView,
    plan: Plan,
    settings: AugmentationSettings,
    llm: LLMSettings,
    chat: ChatBackend,
    events: Events,
    usage: UsageStats,
    content: Content,
) -> Spool:
    """Ask the questions of a plan; return the replies, or reason and detail of a failure, in their order."""
    requests = generation_requests(view, plan.questions, plan.representatives, plan.clusters, settings, llm)
    prompts, answers = Prompts.of(llm), Spool(len(plan.questions))

    async def answer(number: int, request: ChatRequest) -> None:
        reply = await ask(chat, request, Reply, usage, no_items, prompts)
        if not isinstance(reply, Failed) and chat.cacheable:
            for title in filter(None, (clean(item.title, LIMITS["title"]) for item in reply.items)):
                content.add(title, request)
        answers.put(number, [reply.reason, reply.detail] if isinstance(reply, Failed) else reply.model_dump())

    jobs = (partial(answer, number, request) for number, request in enumerate(requests))
    progress = StageProgress(events, "augment", len(plan.questions), chat, usage)
    asyncio.run(work(jobs, llm.concurrency, events, progress))
    return answers


def _generated(
    questions: Questions,
    generated: Generated,
    items: np.ndarray,
    judged: Judged,
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
            "anchor": judged.scores.anchors,
            "score_source": judged.scores.source,
            "score_target": judged.scores.target,
            "rank": judged.ranks,
            "tau": judged.tau,
            "kept": kept,
            "reason": reasons,
        },
        schema=GENERATED,
    )
    judgement = ("anchor", "score_source", "score_target", "rank", "tau")
    return frame.with_columns(pl.col("tau").fill_nan(None)).with_columns(
        pl.col("item").replace(0, None),
        *(pl.when(pl.Series(judged.usable)).then(name).alias(name) for name in judgement),
    )


def _sources(view: TrainingView, plan: Plan) -> pl.DataFrame:
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
