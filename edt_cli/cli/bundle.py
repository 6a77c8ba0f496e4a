"""`edt report --bundle`: tables with all that stands behind them, as a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edt_cli.cli.common import note

if TYPE_CHECKING:
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table, TextForm
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


def bundle(
    out: Path, workspace: Workspace, tables: Sequence[Table], figures: Sequence[Figure], runs: Sequence[Run]
) -> None:
    """Write tables and figures in every form, and what stands behind their runs.

    Raises:
        UsageError: If the tables are of no run of this workspace.
    """
    from edt_cli.audit.bundle import write_bundle
    from edt_cli.config import UsageError
    from edt_cli.workspace.provenance import without_secrets

    if not runs:
        raise UsageError("--bundle takes tables of runs: there is none behind these")
    argv = without_secrets(["edt", *sys.argv[1:]])
    count = write_bundle(out, workspace, runs, rendered(tables, figures), argv)
    note(f"{count} files of {len(runs)} runs are written to {out}; edt audit {out} checks them")


def rendered(tables: Sequence[Table], figures: Sequence[Figure]) -> dict[str, str]:
    """Return tables and figures in every form, by file name."""
    from edt_cli.reporting.report import report_text

    forms: dict[str, TextForm | Literal["html"]] = {
        "tables.md": "markdown",
        "tables.tex": "latex",
        "tables.csv": "csv",
        "tables.html": "html",
        "tables.json": "json",
    }
    return {name: report_text(tables, figures, form) for name, form in forms.items()}
