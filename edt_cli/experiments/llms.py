"""LLMs that a plan is handed: one for all its systems, or several that it compares (table 8, section 4.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edt_cli.config import UsageError, validated
from edt_cli.experiments.plan import Plan, PlannedSystem, Values, merged

LOCAL = "local"


@dataclass(frozen=True)
class LLM:
    """An LLM with the embedder that goes with it."""

    provider: str
    embedder: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse PROVIDER[/MODEL][,EMBEDDER]; without an embedder it is `local`.

        Raises:
            UsageError: If the text is of another form.
        """
        provider, comma, embedder = (part.strip() for part in text.partition(","))
        if not provider or (comma and not embedder) or "," in embedder:
            raise UsageError(f"--llm takes PROVIDER/MODEL[,EMBEDDER], such as openai/gpt-4o-mini; got {text!r}")
        return cls(provider, embedder or LOCAL)

    @property
    def label(self) -> str:
        return f"With {self.provider}" + (f", {self.embedder}" if self.embedder != LOCAL else "")

    def settings(self) -> Values:
        return {"llm": {"provider": self.provider}, "embedding": {"embedder": self.embedder}}


def compares_llms(plan: Plan) -> bool:
    """Return whether the rows of a plan have LLMs of their own."""
    return any("provider" in entry.settings.get("llm", {}) for entry in plan.systems)


def with_llms(plan: Plan, llms: Sequence[LLM], of_llm: Values | None = None, of_all: Values | None = None) -> Plan:
    """Return a plan whose LLM stages are done by the given LLMs.

    Args:
        plan: A plan.
        llms: One for all systems; any number for a plan that compares LLMs, in which `local` stays the last row.
        of_llm: Further settings of whatever is not `local`.
        of_all: Further settings of all systems.

    Raises:
        UsageError: If a plan that compares no LLMs is handed several.
    """
    plan = plan.changed(settings=of_all)
    if not compares_llms(plan):
        if len(llms) > 1:
            raise UsageError("only table-8 and cost have several LLMs: give one --llm")
        return plan.changed(settings=merged(*(llm.settings() for llm in llms), of_llm or {}))
    by_llm = [entry for entry in plan.systems if not _is_local(entry)]
    local = [entry for entry in plan.systems if _is_local(entry)]
    if llms:
        by_llm = [
            by_llm[0].model_copy(
                update={"label": llm.label, "settings": merged(by_llm[0].settings, llm.settings())}
            )
            for llm in llms
            if llm != LLM(LOCAL, LOCAL)
        ]
    rows = [entry.model_copy(update={"settings": merged(entry.settings, of_llm or {})}) for entry in by_llm]
    return validated(Plan, {**plan.model_dump(), "systems": [entry.model_dump() for entry in (*rows, *local)]})


def _is_local(entry: PlannedSystem) -> bool:
    return entry.settings.get("llm", {}).get("provider") == LOCAL
