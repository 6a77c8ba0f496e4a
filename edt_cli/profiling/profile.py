"""Profiles from end to end: cluster, summarize, reform, analyze, embed (section 3.4)."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import polars as pl

from edt_backends.base import ChatBackend, EmbeddingBackend
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import LLMSettings, ProfilingSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.ask import Failed, UsageStats
from edt_cli.llm.embeddings import ItemEmbeddings, embed_texts
from edt_cli.llm.prompt_set import NO_DOMAIN
from edt_cli.llm.shards import Shard
from edt_cli.profiling.chain import Chain
from edt_cli.profiling.groups import sources
from edt_cli.profiling.profiles import FAILURES, INSTRUCTIONS, SUMMARIES, Profiles
from edt_cli.workspace.events import Events


def profile(
    view: TrainingView,
    augmentation: Augmentation,
    embeddings: ItemEmbeddings,
    settings: ProfilingSettings,
    llm: LLMSettings,
    chat: ChatBackend,
    embedder: EmbeddingBackend,
    events: Events,
) -> Profiles:
    """Write a profile of each user's augmented sequence; users without any item with text have none.

    r and the dominant domain are those of the user's training interactions (section 1), without inserted items. A
    user whose chain fails at any step has no profile; if reforming fails, the instruction is used as written.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops the stage.
    """
    users, dimension = len(view.prefixes), embeddings.vectors.shape[1]
    if not settings.enabled:
        return Profiles.none(users, dimension)
    chain = Chain(view, augmentation, embeddings, settings, llm)
    usage = UsageStats()
    reformed, outcomes = asyncio.run(chain.run(chat, events, usage))
    texts: list[str | None] = [None] * users
    instructions, summaries = [], []
    failures: list[tuple[int | None, str, str, str]] = []
    for pair, answer in reformed.items():
        if isinstance(answer, Failed):
            failures.append((None, "reform", answer.reason, answer.detail))
            answer = chain.instruction(pair)
        degree, dominant = pair
        instructions.append((degree, None if dominant == NO_DOMAIN else dominant, answer))
    for user, outcome in zip(chain.users, outcomes, strict=True):
        texts[user] = outcome.profile
        summaries += [(user, *part) for part in outcome.summaries]
        if outcome.failed is not None:
            failures.append((user, outcome.step, outcome.failed.reason, outcome.failed.detail))
    written = [text for text in texts if text is not None]
    vectors = np.zeros((users, dimension), np.float32)
    if written:
        vectors[[text is not None for text in texts]] = embed_texts(written, embedder, events, "embed profiles")
    content = chain.content
    looked_at = {"content": content.summary(), "warnings": content.warnings("profiles")} if content.texts else {}
    return Profiles(
        texts=texts,
        vectors=vectors,
        summaries=pl.DataFrame(summaries, schema=SUMMARIES, orient="row"),
        instructions=pl.DataFrame(instructions, schema=INSTRUCTIONS, orient="row"),
        sources=sources(augmentation, chain.groups, np.array(chain.users, dtype=np.int64)),
        failures=pl.DataFrame(failures, schema=FAILURES, orient="row"),
        summary={
            "users": users,
            "eligible_users": chain.eligible,
            "users_without_text": users - chain.eligible,
            "asked_users": len(chain.users),
            "profiles": len(written),
            "failed": dict(Counter(reason for _, _, reason, _ in failures).most_common()),
            "chain": settings.chain,
            "degrees": np.bincount(chain.degrees[chain.users], minlength=len(chain.prompts.instructions)).tolist(),
            "llm": usage.summary(),
            **looked_at,
        },
    )


def ask_shard(
    view: TrainingView,
    augmentation: Augmentation,
    embeddings: ItemEmbeddings,
    settings: ProfilingSettings,
    llm: LLMSettings,
    chat: ChatBackend,
    events: Events,
    shard: Shard,
) -> tuple[Chain, dict[str, int], UsageStats]:
    """Ask what `profile` would ask about the users of a shard, and leave the replies to the cache.

    Returns:
        The questions, the failed users by reason, and what the replies were.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops the stage.
    """
    chain = Chain(view, augmentation, embeddings, settings, llm)
    chain.of_shard(shard)
    usage = UsageStats()
    _, outcomes = asyncio.run(chain.run(chat, events, usage))
    failed = Counter(outcome.failed.reason for outcome in outcomes if outcome.failed is not None)
    return chain, dict(failed), usage
