"""What a plan has found so far: tables of its runs, or of the artefacts that it ends at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edt_cli.data.open import is_synthetic
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.figures import Augmented, figures_of, items_by_domain, users_by_r
from edt_cli.experiments.plan_results import collect_results
from edt_cli.inference.bill import stage_bills
from edt_cli.inference.similarity import profile_similarity
from edt_cli.inference.statistics import statistics
from edt_cli.reporting.beside_paper import beside_paper, figure_beside_paper
from edt_cli.reporting.comparison import Claim, Outcome, comparison_tables
from edt_cli.reporting.figure import Figure
from edt_cli.reporting.stages import bill_tables, similarity_tables
from edt_cli.reporting.table import Table
from edt_cli.reporting.tables import table_1
from edt_cli.workspace.events import Events

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset
    from edt_cli.workspace.layout import Workspace


@dataclass(frozen=True)
class Findings:
    """Tables and figures of a plan, and the outcomes and claims behind them."""

    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    outcomes: Sequence[Outcome] = ()
    claims: Sequence[Claim] = ()


def findings(c: Comparison, device: str = "cpu", events: Events | None = None) -> Findings:
    """Read what is made of a plan, evaluating runs that are not evaluated yet; there is nothing of what is not."""
    if c.plan.stage is None:
        result = collect_results(c, device, events)
        figures: list[Figure] = []
        if c.plan.figure is not None and result.outcomes:
            figures = figures_of(c.workspace, c.plan.figure, result.outcomes, device=device, events=events)
        tables = comparison_tables(result.grid, result.outcomes, result.claims)
        return Findings(tables, figures, result.outcomes, result.claims)
    if is_bill(c):
        return Findings(_bill(c))
    if all(c.state(cell) == "to do" for cell in c.cells):
        return Findings()
    of_table: dict[int | None, Callable[[Comparison], list[Table]]] = {1: _statistics, 6: _similarity}
    of_figure: dict[int | None, Callable[[Workspace, Dataset, Sequence[Augmented]], Figure]] = {
        1: users_by_r,
        3: lambda workspace, dataset, systems: items_by_domain(workspace, dataset, systems[0]),
    }
    if c.plan.figure is None:
        return Findings(of_table[c.plan.table](c))
    return Findings(
        figures=[
            of_figure[c.plan.figure](c.workspace, dataset, systems)
            for dataset in c.datasets.values()
            if (systems := _augmented(c, dataset))
        ]
    )


def beside(found: Findings) -> Findings:
    """Return what was found with the paper's own figures beside it."""
    return replace(
        found,
        tables=[beside_paper(table) for table in found.tables],
        figures=[figure_beside_paper(figure) for figure in found.figures],
    )


def _augmented(c: Comparison, dataset: Dataset) -> list[Augmented]:
    """Return what the systems of a plan add to the histories of a dataset, as far as it is made."""
    pipelines = [c.pipeline(cell) for cell in c.cells if cell.data == dataset.name]
    return [
        Augmented(one.settings, one.llm_name, one.augmentation(), one.item_vectors())
        for one in pipelines
        if one.made("augmentation")
    ]


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
