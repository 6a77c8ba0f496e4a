"""Tables and figures on the terminal, on stdout or in files, in each form that `--format` has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from edt_cli.cli.common import note, stdout
from edt_cli.reporting.table import ENDINGS, DrawnForm

if TYPE_CHECKING:
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table

DRAWN: tuple[str, ...] = get_args(DrawnForm)


def write_tables(
    tables: Sequence[Table],
    form: str,
    out: Path | None,
    changes: Mapping[str, str] | None = None,
    figures: Sequence[Figure] = (),
) -> None:
    """Write tables and figures in one of the forms of a report.

    Args:
        tables: The tables; PNG, SVG and PDF have none.
        form: Form; in place of `terminal`, a file gets that of its ending.
        out: File to write to; None for stdout.
        changes: How the data of runs has changed since, for `json`.
        figures: The figures.
    """
    from edt_cli.reporting.report import report_text
    from edt_cli.workspace.files import write_atomic

    form = form_of(form, out)
    check_drawn(form, out, figures=bool(figures))
    if form in DRAWN:
        assert out is not None
        _write_drawn(figures, form, out)
        return
    if form == "terminal":
        _show(tables, figures)
        return
    text = report_text(tables, figures, form, changes)  # type: ignore[arg-type]
    if out is None:
        typer.echo(text, nl=False)
        return
    write_atomic(out, text)
    note(f"written to {out}")


def form_of(form: str, out: Path | None) -> str:
    """Return the form that is written: in place of `terminal`, a file gets that of its ending."""
    return ENDINGS.get(out.suffix.lower(), "markdown") if out is not None and form == "terminal" else form


def check_drawn(form: str, out: Path | None, *, figures: bool) -> None:
    """Check that there are figures and a file to draw them to, if the form is a drawn one.

    Raises:
        UsageError: If not.
    """
    from edt_cli.config import UsageError

    if form not in DRAWN:
        return
    if not figures:
        raise UsageError(f"only figures are drawn as {form}: name one with --figure 1, or a plan that is of one")
    if out is None:
        raise UsageError(f"{form} needs a file: --out figure.{form}")


def _show(tables: Sequence[Table], figures: Sequence[Figure]) -> None:
    from edt_cli.reporting.render import render

    console = stdout()
    for table in tables:
        console.print(render(table, "terminal"))
    if figures:
        from edt_cli.reporting.terminal_figure import TerminalFigure

        for figure in figures:
            console.print(TerminalFigure(figure))


def _write_drawn(figures: Sequence[Figure], form: Any, out: Path) -> None:
    """Write figures as PNG, SVG or PDF; the files of several PNG or SVG are numbered."""
    from edt_cli.reporting.drawn_figure import draw
    from edt_cli.workspace.files import write_atomic

    if form == "pdf" or len(figures) == 1:
        files = {out: figures}
    else:
        files = {out.with_stem(f"{out.stem}-{n}"): [figure] for n, figure in enumerate(figures, start=1)}
    for path, drawn in files.items():
        write_atomic(path, draw(drawn, form))
        note(f"written to {path}: {', '.join(dict.fromkeys(figure.heading for figure in drawn))}")
