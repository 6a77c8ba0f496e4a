"""What `edt report --figure` shows: the paper's figures, of the runs there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edt_cli.cli.common import progress, progress_alone
from edt_cli.cli.eval import result_documents, runs_of, without_refits

if TYPE_CHECKING:
    from edt_cli.config import EvaluationSettings, Split
    from edt_cli.reporting.figure import Figure
    from edt_cli.workspace.layout import Workspace


def figure_numbers(given: Sequence[str]) -> list[int]:
    """Return the numbers in the values of `--figure`, each once, such as 4 and 5 of `4,5`.

    Raises:
        UsageError: If one is no number.
    """
    from edt_cli.config import UsageError

    try:
        return list(dict.fromkeys(int(part) for value in given for part in value.split(",")))
    except ValueError:
        raise UsageError(f"--figure takes numbers, such as 1 or 4,5; got {','.join(given)!r}") from None


def figures_of_runs(
    workspace: Workspace,
    numbers: Sequence[int],
    data: str | None,
    names: list[str] | None,
    split: Split,
    settings: EvaluationSettings,
    metric: str,
    device: str,
) -> tuple[list[Figure], dict[str, str]]:
    """Return figures of the paper, and how the data of their runs has changed since.

    Args:
        workspace: The workspace of the runs.
        numbers: Numbers of the figures.
        data: Dataset; None for that of the newest run, and for each dataset in figures that need no run.
        names: Runs; None for all finished ones of the dataset.
        split: The split whose targets are ranked.
        settings: Candidates of the ranking.
        metric: Metric of figures 4 and 5.
        device: Device to rank on, and on which figure 6 is measured.

    Raises:
        UserError: If what a figure shows is not there.
        UsageError: If there is no such figure.
    """
    from edt_cli.cli.plan_reports import figures_of_artefacts
    from edt_cli.experiments.figures import OF_DATA, check_figure, figures_of
    from edt_cli.training.device import open_device
    from edt_cli.workspace.runs import data_changes

    for number in numbers:
        check_figure(number)
    documents, changes = [], {}
    if not set(numbers) <= set(OF_DATA):
        runs = runs_of(workspace, data, names)
        runs = runs if names or split == "test" else without_refits(runs)
        documents = result_documents(workspace, runs, split, settings, device)
        changes = data_changes(workspace, runs)
    known = [data] if data else [document["data"] for document in documents] or dataset_names(workspace)
    datasets = list(dict.fromkeys(known))
    chosen = str(open_device(device))
    figures = []
    with progress() as listen:
        for number in numbers:
            of_plan = figures_of_artefacts(workspace, number, datasets) if number in OF_DATA else []
            figures += of_plan or figures_of(
                workspace,
                number,
                documents,
                data=datasets,
                metric=metric,
                device=chosen,
                events=progress_alone(listen),
            )
    return figures, changes


def dataset_names(workspace: Workspace) -> list[str]:
    """Return the prepared datasets without samples of others.

    Raises:
        UserError: If there is none.
    """
    from edt_cli.config import UserError

    names = [artefact.key for artefact in workspace.datasets() if "sample_of" not in artefact.manifest()]
    if not names:
        raise UserError("there is no dataset yet; make one with: edt data prepare NAME --raw DIR")
    return names
