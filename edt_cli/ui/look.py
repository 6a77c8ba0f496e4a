"""What a run looks like, beside the list that its name stands in: its facts, and its curve with those marked."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from edt_cli.inference.listing import RunRow
from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.library import Shelf, fold_all, why_failed
from edt_cli.ui.names import short_names
from edt_cli.ui.state import RunState
from edt_cli.ui.text import flat, safe
from edt_cli.ui.tones import RUNS, Tinted, domain_tone, lines, muted, sign
from edt_cli.workspace.status import RunStatus

MOST_CURVES = 4
HINT = "space marks a run; what this one sets otherwise is then shown here"


class Look(Vertical):
    """Facts and curve of the run under the cursor, with the curves of the marked runs."""

    DEFAULT_CSS = """
    Look #facts-box { height: 1fr; }
    Look Chart { height: 2fr; display: none; }
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self.shelf = shelf
        self._finished = False
        self._states: dict[Path, tuple[object, RunState]] = {}

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="facts-box", classes="frame", can_focus=True) as box:
            box.border_title = "run"
            yield Static(id="facts", markup=False)
        yield Chart("validation NDCG@10, mean of domains", id="curves")

    def show_facts(self, row: RunRow | None) -> None:
        """Show what is known of a run without reading its events."""
        self._finished = row is not None and row.status == RunStatus.FINISHED
        self.query_one("#facts", Static).update(lines(facts(row, self.shelf)) if row else "")

    def show_curves(self, curves: dict[str, Curve]) -> None:
        """Draw the curves of some runs."""
        chart = self.query_one(Chart)
        chart.empty = "nothing was trained" if self._finished else "nothing to draw yet"
        colours = {name: RUNS[place % len(RUNS)] for place, name in enumerate(curves)}
        chart.show(curves, note="by epoch, over all phases", colours=colours)

    def read(self, row: RunRow) -> dict[str, Curve]:
        """Return the curves of a run and of the marked ones; events are read again only if there are more."""
        marked = [other for other in self.shelf.marked_runs() if other.name != row.name]
        rows = [row, *marked[: MOST_CURVES - 1]]
        names = short_names([row.name for row in rows]) if marked else [row.title or row.name]
        curves = {name: self._state(row.folder).whole() for name, row in zip(names, rows, strict=True)}
        return {name: curve for name, curve in curves.items() if len(curve)}

    def _state(self, folder: Path) -> RunState:
        try:
            stat = (folder / "events.jsonl").stat()
            version: object = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            version = None
        known = self._states.get(folder)
        if known is None or known[0] != version:
            known = (version, fold_all(folder))
            self._states[folder] = known
        return known[1]


def facts(row: RunRow, shelf: Shelf) -> list[list[str]]:
    """Return what is known of a run, and what it sets otherwise than the first marked one."""
    written = " ".join(filter(None, (row.annotations.name, *(f"#{tag}" for tag in row.annotations.tags))))
    state = sign(row.status)
    rows: list[list[str]] = [[Tinted(safe(row.name, 80), bold=True), "   ", state, f"   {safe(written, 200)}"]]
    if row.status == RunStatus.DAMAGED:
        told = "run.json or manifest.json cannot be read; remove its folder:"
        return [*rows, [Tinted(told, "bad")], [str(row.folder)]]
    if row.status in (RunStatus.FAILED, RunStatus.SILENT) and (why := why_failed(row.folder)):
        rows.append([Tinted(safe(why, 600), "bad")])
    domains = [name.removeprefix("ndcg_") for name in row.figures if name.startswith("ndcg_")]
    for place, domain in enumerate(domains):
        tone = domain_tone(place)
        ndcg, hr = row.figures[f"ndcg_{domain}"], row.figures.get(f"hr_{domain}", 0.0)
        rows.append([Tinted(f"{safe(domain, 20)}  NDCG@10 {ndcg:.4f}  HR@10 {hr:.4f}", tone)])
    llm = row.plan.get("llm")
    given = row.plan.get("item_vectors")
    parts = [
        f"{row.title} on {row.data}",
        llm,
        f"item vectors: given ({given})" if given else "",
        row.plan.get("device"),
    ]
    rows.append([safe(", ".join(str(part) for part in parts if part), 300)])
    if row.annotations.note:
        rows.append([Tinted(safe(row.annotations.note, 600), "accent")])
    others = [other for other in shelf.marked_runs() if other.name != row.name]
    if not others:
        return [*rows, [muted(HINT)]]
    settings, first = (flat(run.plan.get("settings", {})) for run in (row, others[0]))
    differing = [
        f"{name} {first.get(name, '-')} -> {value}" for name, value in settings.items() if first.get(name) != value
    ]
    return [*rows, [safe(f"against {others[0].name}: {', '.join(differing) or 'the same settings'}", 600)]]
