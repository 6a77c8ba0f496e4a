"""The paper's figures, of runs and of the data and artefacts that they were made of."""

from __future__ import annotations

from collections.abc import Sequence

from edt_cli.config import UsageError
from edt_cli.reporting.figure import Figure
from edt_cli.workspace.documents import Result
from edt_cli.workspace.layout import Workspace

FIGURES = (1, 3, 4, 5, 6)
"""Numbers of the paper's figures that can be made; figure 2 is a drawing of the method."""


def figures_of(
    workspace: Workspace,
    number: int,
    results: Sequence[Result],
    *,
    data: Sequence[str] = (),
    metric: str = "hr@10",
    device: str = "cpu",
) -> list[Figure]:
    """Return a figure of the paper for our runs: one for each protocol, or for each dataset.

    Args:
        workspace: Workspace of the runs.
        number: One of FIGURES.
        results: Results to show, those of a first phase among them or not; `Outcome` of a comparison is one.
        data: Datasets of figures 1 and 3, in place of those of the results.
        metric: Metric of figures 4 and 5.
        device: Device on which figure 6 is measured.

    Raises:
        UserError: If what the figure shows is not there; it says how to make it.
        UsageError: If there is no such figure.
    """
    if number not in FIGURES:
        raise UsageError(f"there is no figure {number}; there are: {', '.join(map(str, FIGURES))}")
    raise NotImplementedError
