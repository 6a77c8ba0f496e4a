"""What a plan has found so far: tables of its runs, or of the artefacts that it ends at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edt_cli.data.open import is_synthetic
from edt_cli.experiments.compare import Comparison, collect_results
from edt_cli.inference.bill import stage_bills
from edt_cli.inference.similarity import profile_similarity
from edt_cli.inference.statistics import statistics
from edt_cli.reporting.comparison import Claim, Outcome, comparison_tables
from edt_cli.reporting.stages import bill_tables, similarity_tables
from edt_cli.reporting.table import Table
from edt_cli.reporting.tables import table_1
from edt_cli.workspace.events import Events


@dataclass(frozen=True)
class Findings:
    """Tables of a plan, and the outcomes and claims behind them."""

    tables: Sequence[Table]
    outcomes: Sequence[Outcome] = ()
    claims: Sequence[Claim] = ()


def findings(c: Comparison, device: str = "cpu", events: Events | None = None) -> Findings:
    """Read what is made of a plan, evaluating runs that are not evaluated yet; there is nothing of what is not."""
    if c.plan.stage is None:
        result = collect_results(c, device, events)
        return Findings(
            comparison_tables(result.grid, result.outcomes, result.claims), result.outcomes, result.claims
        )
    return Findings(_of_stages(c))


def _of_stages(c: Comparison) -> list[Table]:
    """Return the tables of a plan that trains nothing."""
    if is_bill(c):
        return _bill(c)
    if c.plan.figure is not None or all(c.state(cell) == "to do" for cell in c.cells):
        return []
    tables: dict[int | None, Callable[[Comparison], list[Table]]] = {1: _statistics, 6: _similarity}
    return tables[c.plan.table](c)


def is_bill(c: Comparison) -> bool:
    """Return whether a plan is about what its LLM stages cost, which can be told before they are made."""
    return c.plan.stage is not None and c.plan.table is None and c.plan.figure is None


def _statistics(c: Comparison) -> list[Table]:
    """Return table 1: each dataset before augmentation and, if it is made, after it."""
    documents = []
    for cell in c.cells:
        pipeline = c.pipeline(cell)
        augmentation = pipeline.augmentation() if pipeline.made("augmentation") else None
        llm = pipeline.llm_name if augmentation else ""
        documents.append(statistics(c.workspace, c.datasets[cell.data], augmentation, llm))
    return [table_1(documents)]


def _similarity(c: Comparison) -> list[Table]:
    """Return table 6: the profiles of a dataset's first row beside those of each other row."""
    similarities = []
    for data in c.datasets:
        before, *others = [cell for cell in c.cells if cell.data == data]
        synthetic = is_synthetic(c.workspace, data)
        similarities += [
            profile_similarity(c.pipeline(before), c.pipeline(cell), cell.label, synthetic=synthetic)
            for cell in others
        ]
    return similarity_tables(similarities)


def _bill(c: Comparison) -> list[Table]:
    """Return section 4.9: what each row's LLM costs on each dataset."""
    bills = []
    for cell in c.cells:
        pipeline = c.pipeline(cell)
        synthetic = is_synthetic(c.workspace, cell.data)
        bills += stage_bills(pipeline, synthetic=synthetic)
    return bill_tables(bills)
