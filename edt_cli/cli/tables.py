"""Tables on the terminal, on stdout or in a file, in each form that `--format` has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edt_cli.cli.common import note, stdout

if TYPE_CHECKING:
    from edt_cli.reporting.table import Table

FORMS = {".md": "markdown", ".tex": "latex", ".html": "html", ".csv": "csv", ".json": "json"}
"""Form of a file, by its ending."""


def write_tables(
    tables: Sequence[Table], form: str, out: Path | None, changes: Mapping[str, str] | None = None
) -> None:
    """Write tables in one of the forms of a report.

    Args:
        tables: The tables.
        form: Form; in place of `terminal`, a file gets that of its ending.
        out: File to write to; None for stdout.
        changes: How the data of runs has changed since, for `json`.
    """
    from edt_cli.reporting.render import document, render
    from edt_cli.workspace.files import write_atomic

    if out is not None and form == "terminal":
        form = FORMS.get(out.suffix, "markdown")
    if form == "terminal":
        console = stdout()
        for table in tables:
            console.print(render(table, form))
        return
    if form == "json":
        whole = {"tables": [document(table) for table in tables], "data_changes": changes or {}}
        text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    elif form == "html":
        from edt_cli.reporting.html import page

        text = page(tables, " · ".join(dict.fromkeys(table.heading for table in tables)))
    else:
        text = "\n".join(str(render(table, form)) for table in tables)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_atomic(out, text)
    note(f"written to {out}")
