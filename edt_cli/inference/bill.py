"""What the LLM stages of a dataset cost, before they are made and after: section 4.9."""

from __future__ import annotations

from typing import Any

from edt_cli.paper.facts import COST_PER_USER
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.estimate import PAPER_STAGES, Estimate, estimates
from edt_cli.pipeline.keys import Kind, LLMStage
from edt_cli.workspace.documents import StageBill

KINDS: dict[str, LLMStage] = {"augment": "augmentation", "profile": "profiles"}
"""Artefact of each stage that asks an LLM."""


def stage_bills(pipeline: Pipeline, *, synthetic: bool) -> list[StageBill]:
    """Return the bill of each stage: what is left to spend by an estimate, and what its replies cost.

    Args:
        pipeline: Pipeline of the stages, both of which are on.
        synthetic: Whether the data is made up.
    """
    left = {one.stage: one for one in estimates(pipeline)} if pipeline.asks_elsewhere else {}
    bills: list[StageBill] = []
    for stage, name in sorted(PAPER_STAGES.items(), key=lambda entry: list(COST_PER_USER).index(entry[1])):
        manifest = _manifest(pipeline, KINDS[stage]) if stage in KINDS else {}
        usage = manifest.get("summary", {}).get("llm", {})
        estimate = left.get(stage, Estimate(stage, 0))
        bills.append(
            {
                "data": pipeline.dataset.name,
                "synthetic": synthetic,
                "quick": bool(pipeline.dataset.sample_of),
                "llm": pipeline.llm_name,
                "embedder": pipeline.embedder.name,
                "stage": name,
                "users": estimate.users
                or manifest.get("summary", {}).get("asked_users", len(pipeline.view.prefixes)),
                "left_usd": estimate.cost_usd and (estimate.cost_usd.low, estimate.cost_usd.high),
                "spent_usd": _embedded(pipeline) if stage == "embed" else _spent(usage),
                "paper_usd_a_user": COST_PER_USER[name],
            }
        )
    return bills


def _manifest(pipeline: Pipeline, kind: Kind) -> dict[str, Any]:
    """Return the manifest of an artefact; {} if it is not made."""
    if not pipeline.made(kind):
        return {}
    return pipeline.workspace.artefact(kind, pipeline.key_of(kind)).manifest()


def _spent(usage: dict[str, Any]) -> float | None:
    """Return the price of a stage's replies; None if there are none, or if one of them has none."""
    return None if usage.get("unpriced") else usage.get("cost_usd")


def _embedded(pipeline: Pipeline) -> float | None:
    """Return the price of the vectors so far, of the catalogue, generated items and profiles; None if unknown."""
    kinds: tuple[Kind, ...] = ("embeddings", "augmentation", "profiles")
    prices = [manifest.get("embedding_usd") for kind in kinds if (manifest := _manifest(pipeline, kind))]
    real = [price for price in prices if price is not None]
    return sum(real) if real and len(real) == len(prices) else None
