"""Forecast of what a plan would still take: runs, time by what such runs took here, and the LLM's bill."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.plan import Cell
from edt_cli.models.systems import asks_llm
from edt_cli.pipeline.estimate import NOTHING, Estimate, Span, estimates
from edt_cli.workspace.runs import Run, all_runs


@dataclass(frozen=True)
class Forecast:
    """What is left of a plan.

    Attributes:
        left: Cells whose run is not finished.
        seconds: Training time of those runs of which a like was made here, one after the other.
        unknown: Cells of which no like was made here.
        stages: What the LLM stages would still ask, one entry a stage and artefact.
    """

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


def forecast(c: Comparison) -> Forecast:
    """Return what is left to do of a comparison; nothing is made, and no LLM is asked."""
    finished = [run for run in all_runs(c.workspace) if run.finished]
    left = [cell for cell in c.unique if c.state(c.run(cell)) not in ("finished", "not evaluated")]
    times = {cell: _seconds_of_alike(cell, finished) for cell in left}
    stages, seen = list[Estimate](), set[tuple[tuple[str, str], ...]]()
    for cell in left:
        pipeline = c.pipeline(cell)
        keys = tuple(sorted(pipeline.artefact_keys().items()))
        if asks_llm(pipeline.settings.model) and keys not in seen:
            stages += estimates(pipeline)
            seen.add(keys)
    return Forecast(
        left=left,
        seconds=sum(seconds for seconds in times.values() if seconds is not None),
        unknown=[cell for cell, seconds in times.items() if seconds is None],
        stages=stages,
    )


def _seconds_of_alike(cell: Cell, finished: Sequence[Run]) -> float | None:
    """Return the median training time of runs of the cell's system, preset and data; None if there is none."""
    times = [
        sum(phase["seconds"] for phase in run.manifest().get("phases", {}).values())
        for run in finished
        if (run.plan["data"], run.settings.model.name, run.plan.get("preset"))
        == (cell.data, cell.model, cell.preset_name)
    ]
    return statistics.median(times) if times else None
