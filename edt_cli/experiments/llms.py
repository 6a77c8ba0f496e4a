"""LLMs that a plan is handed: one for all its systems, or several that it compares (table 8, section 4.9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edt_cli.config import UsageError, validated
from edt_cli.experiments.plan import Plan, PlannedSystem, Values, merged

LOCAL = "local"


@dataclass(frozen=True)
class LLM:
    """An LLM with the embedder that goes with it, each perhaps on a server of its own."""

    provider: str
    embedder: str
    api_base: str | None = None
    embedder_api_base: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse PROVIDER[/MODEL][@URL][,EMBEDDER[@URL]]; without an embedder it is `local`.

        Raises:
            UsageError: If the text is of another form.
        """
        parts = [re.fullmatch(r"\s*(.+?)(?:@(https?://.+?))?\s*", part) for part in text.split(",")]
        if not 1 <= len(parts) <= 2 or None in parts:
            raise UsageError(
                "--llm takes PROVIDER/MODEL[@URL][,EMBEDDER[@URL]], such as openai/gpt-4o-mini or "
                f"openai/served@http://gpu:8000/v1; got {text!r}"
            )
        (provider, api_base), *rest = (part.groups() for part in parts if part)
        embedder, embedder_api_base = rest[0] if rest else (LOCAL, None)
        return cls(provider, embedder, api_base, embedder_api_base)

    @property
    def label(self) -> str:
        return f"With {self.provider}" + (f", {self.embedder}" if self.embedder != LOCAL else "")

    def settings(self) -> Values:
        """Return the settings that choose it; a server that is not named is left to others."""
        at = {} if self.api_base is None else {"api_base": self.api_base}
        embedder_at = {} if self.embedder_api_base is None else {"api_base": self.embedder_api_base}
        return {
            "llm": {"provider": self.provider, **at},
            "embedding": {"embedder": self.embedder, **embedder_at},
        }


def compares_llms(plan: Plan) -> bool:
    """Return whether the rows of a plan have LLMs of their own."""
    return any("provider" in entry.settings.get("llm", {}) for entry in plan.systems)


def with_llms(plan: Plan, llms: Sequence[LLM], of_llm: Values | None = None, of_all: Values | None = None) -> Plan:
    """Return a plan whose LLM stages are done by the given LLMs.

    Args:
        plan: A plan.
        llms: One for all systems; any number for a plan that compares LLMs, in which `local` stays the last row.
        of_llm: Further settings of whatever is not `local`, where an LLM says nothing else.
        of_all: Further settings of all systems.

    Raises:
        UsageError: If a plan that compares no LLMs is handed several.
    """
    plan = plan.changed(settings=of_all)
    if not compares_llms(plan):
        if len(llms) > 1:
            raise UsageError("only table-8 and cost have several LLMs: give one --llm")
        return plan.changed(settings=merged(of_llm or {}, *(llm.settings() for llm in llms)))
    by_llm = [entry for entry in plan.systems if not _is_local(entry)]
    local = [entry for entry in plan.systems if _is_local(entry)]
    rows = [entry.model_copy(update={"settings": merged(entry.settings, of_llm or {})}) for entry in by_llm]
    if llms:
        rows = [
            rows[0].model_copy(update={"label": llm.label, "settings": merged(rows[0].settings, llm.settings())})
            for llm in llms
            if llm != LLM(LOCAL, LOCAL)
        ]
    return validated(Plan, {**plan.model_dump(), "systems": [entry.model_dump() for entry in (*rows, *local)]})


def _is_local(entry: PlannedSystem) -> bool:
    return entry.settings.get("llm", {}).get("provider") == LOCAL
