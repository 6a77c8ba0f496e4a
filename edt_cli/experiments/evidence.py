"""The paper's evidence by name: the plan of each table and figure, as it is wanted on some data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edt_cli.config import UsageError, alternatives
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.files import evidence
from edt_cli.experiments.llms import LLM, with_llms
from edt_cli.experiments.plan import Plan, Values
from edt_cli.workspace.layout import Workspace

ALL = "all"
PAPER = re.compile(r"(table|figure)-\d|cost")
"""Names of what is in the paper, and so in ALL."""


def named(what: Sequence[str]) -> list[str]:
    """Return the names of evidence, each once: `table3` is table-3, and ALL is whatever the paper has.

    Raises:
        UsageError: If there is no such evidence.
    """
    names: list[str] = []
    for text in what:
        name = re.sub(r"^(table|figure)[ -]?(?=\d)", r"\1-", text.lower())
        if name == "figure-2":
            raise UsageError("figure 2 draws the method: there is nothing to reproduce")
        if name not in (*evidence(), ALL):
            raise UsageError(f"there is no {text!r} to reproduce; {alternatives(name, [*evidence(), ALL])}")
        names += [one for one in evidence() if PAPER.fullmatch(one)] if name == ALL else [name]
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Wanted:
    """What evidence is to be made of.

    Attributes:
        data: Names of datasets.
        seeds: Seeds of all systems; empty for those of each plan.
        preset: Preset of the method where a plan names none for its rows.
        budget: Limits of training, in place of those of each plan.
        llms: LLMs, as `with_llms` takes them.
        of_llm: Settings of whatever an LLM makes.
        of_all: Settings of all systems.
        quick: Whether samples stand for the datasets, for one epoch a phase.
        max_failed: Share of a stage's questions that may fail; None for what the settings say.
        retry_failed: Whether to ask questions again whose replies could not be used, once for all evidence.
        asked_again: First keys of the stages whose questions were asked again.
        dry: Whether nobody will be called, so that no key is needed.
    """

    data: Sequence[str]
    seeds: Sequence[int] = ()
    preset: str | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    llms: Sequence[LLM] = ()
    of_llm: Values = field(default_factory=dict)
    of_all: Values = field(default_factory=dict)
    quick: bool = False
    max_failed: float | None = None
    retry_failed: bool = False
    asked_again: set[str] = field(default_factory=set)
    dry: bool = False

    def open(self, workspace: Workspace, name: str) -> Comparison:
        """Open the plan of evidence in a workspace.

        Raises:
            UserError: If a dataset does not exist.
            UsageError: If something wanted is not valid.
        """
        plan = Plan.read(Path(name)).changed(
            data=self.data, seeds=self.seeds, preset=self.preset, budget=self.budget
        )
        opened = Comparison.open(workspace, with_llms(plan, self.llms, self.of_llm, self.of_all), quick=self.quick)
        return replace(
            opened,
            max_failed=self.max_failed,
            retry_failed=self.retry_failed,
            asked_again=self.asked_again,
            dry=self.dry,
        )
