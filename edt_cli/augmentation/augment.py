"""The augmenter from end to end: cluster, ask, filter, insert (section 3.2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from edt_backends.base import ChatBackend, ChatRequest, EmbeddingBackend
from edt_cli.augmentation.artefact import GENERATED, SOURCES, Augmentation
from edt_cli.augmentation.clustering import Clusters, cluster_items
from edt_cli.augmentation.filtering import Scores, passes, rank, score, threshold
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
from edt_cli.augmentation.insertion import choose_gaps, insert
from edt_cli.augmentation.llm import Bill, Failed, ask
from edt_cli.augmentation.representatives import Representatives, find_representatives
from edt_cli.augmentation.work import Spool, Tally, work
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.embeddings import ItemEmbeddings
from edt_cli.events import Events

VERDICTS = {(True, True): "kept", (False, True): "rank", (True, False): "tau", (False, False): "rank and tau"}


def planned_requests(
    view: TrainingView, embeddings: ItemEmbeddings, settings: AugmentationSettings, llm: LLMSettings
) -> Iterator[ChatRequest]:
    """Every question that `augment` would ask, to count and price before anything is spent."""
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
    known_tau: float | None = None,
) -> Augmentation:
    """S_aug for every user, and how it came about.

    known_tau: the value that a pilot calibrated (`summary["tau"]`), used instead of calibrating anew, so that
    what the pilot paid for stays as it was. Errors: BackendError where asking on is pointless; events.Stopped.
    """
    if not settings.enabled:
        return Augmentation.none(view)
    plan = _plan(view, embeddings, settings, llm)
    questions = plan.questions
    requests = generation_requests(view, questions, plan.representatives, plan.clusters, settings, llm)
    bill, answers = Bill(), Spool(len(questions))

    async def answer(number: int, request: ChatRequest) -> None:
        found = await ask(chat, request, Reply, bill, no_items)
        answers.put(number, [found.reason, found.detail] if isinstance(found, Failed) else found.model_dump())

    jobs = (partial(answer, number, request) for number, request in enumerate(requests))
    tally = Tally(events, "augment", len(questions), chat, bill)
    asyncio.run(work(jobs, llm.concurrency, events, tally))
    found = (Failed(*kept) if isinstance(kept, list) else Reply.model_validate(kept) for kept in answers)
    generated = collect(view, questions, found, settings)
    generated, pseudo, vectors = identify(view, embeddings, generated, questions, settings, embedder)

    items, asked = generated.items, generated.questions
    usable = np.array([reason is None for reason in generated.reasons], bool)
    scores = score(vectors, items, asked, questions, plan.representatives, plan.clusters)
    ranks = rank(np.where(usable, asked, -1), scores.source)
    tau = known_tau if settings.filter else None
    if tau is None and settings.filter:
        asked_for = len(view.prefixes) * plan.share_asked
        ranked = ranks[usable] <= settings.keep
        tau = threshold(settings.tau, ranked, scores.target[usable], view.domains, asked_for)
    near, close = passes(ranks, scores.target, tau, settings)
    kept = usable & near & close

    pseudo, pseudo_vectors, new_number = renumber(pseudo, vectors, items[kept])
    users = questions.users[asked]
    slots = questions.targets[asked] * settings.ask + generated.places
    gaps = choose_gaps(
        settings.insertion, view.prefixes.lengths, users[kept], scores.anchors[kept], slots[kept], llm.seed
    )
    sequences, inserted = insert(view.prefixes, users[kept], gaps, scores.source[kept], new_number[items[kept]])
    reasons = [
        reason or VERDICTS[pair]
        for reason, pair in zip(generated.reasons, zip(near.tolist(), close.tolist(), strict=True), strict=True)
    ]
    result = Augmentation(
        sequences=sequences,
        inserted=inserted,
        pseudo=pseudo,
        pseudo_vectors=pseudo_vectors,
        generated=_generated(questions, generated, new_number[items], scores, ranks, usable, kept, reasons),
        sources=_sources(view, plan),
        failures=generated.failures,
    )
    return replace(result, summary=_summary(view, questions, result, tau, bill))


@dataclass(frozen=True)
class _Plan:
    clusters: Clusters
    representatives: Representatives
    questions: Questions

    @property
    def share_asked(self) -> float:
        """Of the users who would be asked without `limit_users`."""
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
    usable: np.ndarray,
    kept: np.ndarray,
    reasons: list[str],
) -> pl.DataFrame:
    asked = generated.questions
    frame = pl.DataFrame(
        {
            "user": questions.users[asked],
            "source": questions.sources[asked],
            "target": questions.targets[asked],
            "item": items,
            "title": generated.fields["title"],
            "anchor": scores.anchors,
            "score_source": scores.source,
            "score_target": scores.target,
            "rank": ranks,
            "kept": kept,
            "reason": reasons,
        },
        schema=GENERATED,
    )
    judged = ("anchor", "score_source", "score_target", "rank")
    return frame.with_columns(
        pl.col("item").replace(0, None), *(pl.when(pl.Series(usable)).then(name).alias(name) for name in judged)
    )


def _sources(view: TrainingView, plan: _Plan) -> pl.DataFrame:
    questions, representatives = plan.questions, plan.representatives
    cells = questions.users * len(view.domains) + questions.sources
    starts = representatives.offsets[cells]
    counts = representatives.offsets[cells + 1] - starts
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - starts, counts)
    frame = pl.DataFrame(
        {
            "user": np.repeat(questions.users, counts),
            "position": representatives.positions[rows],
            "item": representatives.items[rows],
        },
        schema=SOURCES,
    )
    return frame.unique(maintain_order=True)


def _summary(
    view: TrainingView, questions: Questions, result: Augmentation, tau: float | None, bill: Bill
) -> dict[str, Any]:
    """Lengths are of training prefixes; table 1's are of whole sequences, longer by `insertions_a_user` too."""
    users, generated, kept = len(view.prefixes), len(result.generated), int(result.inserted.sum())
    names = view.domains.names
    pseudo = np.bincount(result.pseudo["domain"].to_numpy(), minlength=len(names)).tolist()
    items = {name: len(view.domains.range(domain)) for domain, name in enumerate(names)}
    return {
        "users": users,
        "eligible_users": questions.eligible,
        "users_without_text": questions.without_text,
        "asked_users": len(np.unique(questions.users)),
        "asked": len(questions),
        "failed": dict(Counter(result.failures["reason"]).most_common()),
        "generated": generated,
        "kept": kept,
        "reasons": dict(Counter(result.generated["reason"]).most_common()),
        "share_kept": kept / max(1, generated),
        "tau": tau,
        "insertions_a_user": kept / max(1, users),
        "items_before": items,
        "items_after": {name: items[name] + pseudo[domain] for domain, name in enumerate(names)},
        "average_length_before": len(view.prefixes.items) / max(1, users),
        "average_length_after": len(result.sequences.items) / max(1, users),
        "llm": bill.summary(),
    }
