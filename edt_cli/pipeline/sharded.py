"""LLM stages in shards: each asks about its users and fills the cache; the stage itself then finds all replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edt_cli.config import Settings, UsageError, UserError
from edt_cli.llm.shards import Shard
from edt_cli.pipeline.keys import LLMStage

if TYPE_CHECKING:
    from edt_cli.llm.ask import UsageStats
    from edt_cli.pipeline import Pipeline


def with_budget(settings: Settings, stage: str, data: str, shard: Shard) -> Settings:
    """Return the settings with a budget that all shards of a stage share, unless they name one.

    Raises:
        UsageError: If questions are to be sent as batch jobs, which share no budget.
    """
    if settings.limits.batch_api:
        raise UsageError("--batch-api sends all questions as one job: leave out --shard")
    if settings.limits.budget is not None:
        return settings
    llm = "/".join(filter(None, (settings.llm.provider, settings.llm.model)))
    return settings.changed(limits={"budget": f"{stage} {data} by {llm} in {shard.of} shards"[:200]})


def check_shard(pipeline: Pipeline, kind: LLMStage, shard: Shard) -> None:
    """Check that a stage can be asked in shards.

    Raises:
        UsageError: If it makes no sense to.
        UserError: If the stage before it is not made.
    """
    if not pipeline.providers.backend.cacheable:
        raise UsageError("--shard is for an LLM, whose replies are kept; without --provider nobody is asked")
    if kind == "augmentation" and not shard.number:
        raise UsageError("--shard 0 asks what all users share, and `augment` has no such questions: begin with 1")
    if kind == "profiles" and not pipeline.profiled_is_made:
        raise UserError(
            "profiles are of augmented sequences, and the augmentation is not made: first `edt augment` with the "
            "same options but --shard"
        )


def ask_shard(pipeline: Pipeline, kind: LLMStage, shard: Shard) -> dict[str, Any]:
    """Ask the questions of a stage about the users of a shard; nothing is made of the replies yet.

    Returns:
        What was asked, and what came of it.

    Raises:
        BackendError: If further requests are pointless.
        Stopped: If the user stops it.
    """
    if pipeline.made(kind) and not pipeline.providers.retry_failed:
        raise UserError(f"the {kind} of these settings are made already: nothing is left to ask")
    chat = pipeline.chat
    try:
        ask = _generate if kind == "augmentation" else _profile
        users, questions, failed, usage = ask(pipeline, shard)
    finally:
        pipeline.providers.note_hits(chat)
    counts = {"users": users, "questions": questions, "failed": failed, "llm": usage.summary()}
    return {"shard": f"{shard.number}/{shard.of}", **counts}


Asked = tuple[int, int, dict[str, int], "UsageStats"]
"""Users, questions, failed ones by reason, and the replies."""


def _generate(pipeline: Pipeline, shard: Shard) -> Asked:
    from edt_cli.augmentation.augment import ask_shard

    s, stages = pipeline.settings, pipeline.augmenter
    questions, usage = ask_shard(
        stages.view, pipeline.embeddings(), s.augmentation, s.llm, pipeline.chat, pipeline.events, shard
    )
    return len(set(questions.users.tolist())), len(questions), usage.failed, usage


def _profile(pipeline: Pipeline, shard: Shard) -> Asked:
    from edt_cli.profiling.profile import ask_shard

    s, (view, augmented) = pipeline.settings, pipeline.profiler.profiled_view()
    chain, failed, usage = ask_shard(
        view, augmented, pipeline.embeddings(), s.profiling, s.llm, pipeline.chat, pipeline.events, shard
    )
    return len(chain.users), usage.replies - usage.repairs, failed, usage
