"""`edt report --bundle`: tables with all that stands behind them, as a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edt_cli.cli.common import note

if TYPE_CHECKING:
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


def bundle(out: Path, workspace: Workspace, tables: Sequence[Table], runs: Sequence[Run]) -> None:
    """Write tables in every form, and what stands behind their runs.

    Raises:
        UsageError: If the tables are of no run of this workspace.
    """
    from edt_cli.audit.bundle import write_bundle
    from edt_cli.config import UsageError
    from edt_cli.workspace.provenance import without_secrets

    if not runs:
        raise UsageError("--bundle takes tables of runs: there is none behind these")
    argv = without_secrets(["edt", *sys.argv[1:]])
    count = write_bundle(out, workspace, runs, rendered(tables), argv)
    note(f"{count} files of {len(runs)} runs are written to {out}; edt audit {out} checks them")


def rendered(tables: Sequence[Table]) -> dict[str, str]:
    """Return tables in every form, by file name."""
    from edt_cli.reporting.html import page
    from edt_cli.reporting.render import document, render

    forms = {"tables.md": "markdown", "tables.tex": "latex", "tables.csv": "csv"}
    files = {name: "\n".join(str(render(table, form)) for table in tables) for name, form in forms.items()}
    files["tables.html"] = page(tables, " · ".join(dict.fromkeys(table.heading for table in tables)))
    files["tables.json"] = json.dumps(
        {"tables": [document(table) for table in tables]}, indent=1, ensure_ascii=False
    )
    return files
