"""Forecast of what plans would still take: runs, time by what such runs took here, and the LLM's bill."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.plan import Cell
from edt_cli.models.systems import asks_llm
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.estimate import NOTHING, Counted, Estimate, Span, estimates
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.workspace.layout import Artefact
from edt_cli.workspace.runs import Run, all_runs


@dataclass(frozen=True)
class Forecast:
    """What is left of plans; what several of them need is counted once.

    Attributes:
        what: What the plans make: "runs", "artefacts", or both.
        total: Number of them.
        left: Cells whose run or artefact is not finished.
        seconds: Time of those of which a like was made here, one after the other.
        unknown: Cells of which no like was made here.
        stages: What the LLM stages would still ask, one entry a stage and artefact; nothing of `local`.
    """

    what: str
    total: int
    left: Sequence[Cell]
    seconds: float
    unknown: Sequence[Cell]
    stages: Sequence[Estimate]

    @property
    def calls(self) -> Span:
        """Calls of all LLM stages."""
        return sum((stage.calls for stage in self.stages), NOTHING)

    @property
    def cost(self) -> Span | None:
        """Cost of all LLM stages in US dollars; None if a price is not known."""
        total = NOTHING
        for stage in self.stages:
            if stage.cost_usd is None:
                return None
            total += stage.cost_usd
        return total

    def document(self) -> dict[str, Any]:
        """Return the forecast as JSON values."""
        return {
            "runs": len(self.left),
            "seconds": self.seconds,
            "runs_of_unknown_time": len(self.unknown),
            "llm_calls": list(self.calls),
            "cost_usd": None if self.cost is None else list(self.cost),
        }


def forecast(*comparisons: Comparison) -> Forecast:
    """Return what is left to do of comparisons in a workspace; nothing is made, and no LLM is asked."""
    cells: dict[str, tuple[Comparison, Cell]] = {}
    for c in comparisons:
        for cell in c.unique:
            cells.setdefault(c.key(cell), (c, cell))
    left = [(c, cell) for c, cell in cells.values() if c.state(cell) not in ("finished", "not evaluated")]
    workspace = comparisons[0].workspace
    finished, artefacts = [run for run in all_runs(workspace) if run.finished], workspace.all_artefacts()
    times: dict[Cell, float | None] = {}
    stages, counted = list[Estimate](), Counted()
    for c, cell in left:
        pipeline = c.pipeline(cell)
        of_stage = cell.stage is not None
        times[cell] = _of_stages(pipeline, artefacts) if of_stage else _of_training(cell, finished)
        if asks_llm(pipeline.settings.model) and pipeline.asks_elsewhere:
            stages += estimates(pipeline, counted)
    return Forecast(
        what=" and ".join(dict.fromkeys(c.what for c in comparisons)),
        total=len(cells),
        left=[cell for _, cell in left],
        seconds=sum(seconds for seconds in times.values() if seconds is not None),
        unknown=[cell for cell, seconds in times.items() if seconds is None],
        stages=stages,
    )


def _of_training(cell: Cell, finished: Sequence[Run]) -> float | None:
    """Return the median training time of runs of the cell's system, preset and data; None if there is none."""
    times = [
        sum(phase["seconds"] for phase in run.manifest().get("phases", {}).values())
        for run in finished
        if (run.plan["data"], run.settings.model.name, run.plan.get("preset"))
        == (cell.data, cell.model, cell.preset_name)
    ]
    return statistics.median(times) if times else None


def _of_stages(pipeline: Pipeline, artefacts: Sequence[Artefact]) -> float | None:
    """Return the seconds of the artefacts that are left, each the median of its kind by the same LLM and vectors.

    None if one of them has no like.
    """
    total = 0.0
    for kind, key in pipeline.artefact_keys().items():
        if key == OFF or pipeline.made(kind):
            continue
        manifests = [artefact.manifest() for artefact in artefacts if artefact.kind == kind]
        alike = [
            manifest["seconds"]
            for manifest in manifests
            if manifest.get("inputs", {}).get("embeddings") == pipeline.embeddings_key
            and manifest.get("llm") == pipeline.llm_name
        ]
        if not alike:
            return None
        total += statistics.median(alike)
    return total
