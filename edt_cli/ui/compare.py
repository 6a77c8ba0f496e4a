"""Comparison of marked runs: overlaid curves, settings that differ, and paired differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow
from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.library import Shelf, fold_all
from edt_cli.ui.names import short_names
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import flat, safe
from edt_cli.ui.tones import RUNS, Tinted, domain_tone
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import RESULTS

MOST = 8
RANKS = f"{RESULTS}/test-full-ranks.parquet"
ALL_PHASES = "all phases"
HIDDEN_SETTINGS = ("run.key", "run.data_key")


@dataclass(frozen=True)
class Compared:
    """Comparison of runs with the first of them."""

    names: list[str]
    """Names of the runs, short enough for the ends of curves."""
    phases: dict[str, dict[str, Curve]]
    """Curve of each run, by phase and name of the run; first those over all phases, where a run has several."""
    lines: list[tuple[str, ...]]
    """Each setting that differs, with its value in each run."""
    differences: list[tuple[str, ...]]
    """Run, domain, NDCG@10 of the first run and of this run, difference, interval, whether it excludes 0, users."""
    notes: list[str] = field(default_factory=list)


class Compare(Pane):
    """Section that compares marked runs with the first of them; `f` makes the next run the first."""

    BINDINGS = [
        Binding("left_square_bracket", "phase(-1)", "Phase before", key_display="["),
        Binding("right_square_bracket", "phase(1)", "Phase after", key_display="]", show=False),
        Binding("f", "first", "Next run first"),
    ]
    DEFAULT_CSS = """
    Compare #summary { height: auto; max-height: 4; }
    Compare #left { height: 1fr; width: 1fr; }
    Compare #right { height: 1fr; width: 1fr; }
    """

    def __init__(self, workspace: Workspace, shelf: Shelf) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = shelf
        self.compared: Compared | None = None
        self.shown_phase = 0
        self.first_run = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="left"):
            yield Static(id="summary", classes="bar", markup=False)
            yield Chart("validation NDCG@10, mean of domains", id="overlaid")
        with Vertical(id="right"):
            yield Rows(id="differences", empty="no paired ranks: edt eval for both runs")
            yield Rows(id="settings", empty="the same settings")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "phase" or (self.compared is not None and len(self.compared.phases) > 1)

    def entered(self) -> None:
        marked = self.shelf.marked_runs()[:MOST]
        if len(marked) < 2:
            self.compared = None
            self.query_one("#summary", Static).update("mark two runs or more in 2 Runs (space), then come back")
            for rows in self.query(Rows):
                rows.empty = "no runs are marked"
                rows.load([], 0, lambda row: ())
            self.query_one(Chart).show({})
            return
        for rows in self.query(Rows):
            rows.empty = "reading ..."
            rows.refresh()
        first = self.first_run % len(marked)
        self.query_one("#summary", Static).update("reading ...")
        self.reads(lambda: compare(self.workspace, marked[first:] + marked[:first]), self._show)

    def _show(self, compared: Compared) -> None:
        self.compared = compared
        self.query_one("#differences", Rows).empty = "no paired ranks: edt eval for both runs"
        self.query_one("#settings", Rows).empty = "the same settings"
        summary = [f"{safe(compared.names[0], 60)} is first; the others against it", *compared.notes]
        self.query_one("#summary", Static).update("\n".join(summary))
        heads = [
            Col("run", min(24, max(map(len, compared.names)))),
            Col("domain", max([6, *(len(line[1]) for line in compared.differences)])),
            *(Col(name, 6, right=True) for name in ("first", "N@10")),
            Col("differs", 8, right=True),
            Col("95% interval", 18, right=True),
            Col("clear", 5),
            Col("users", 7, right=True),
        ]
        self.query_one("#differences", Rows).load(
            heads, len(compared.differences), compared.differences.__getitem__
        )
        columns = [Col("setting", 28), *(Col(name, max(12, min(22, len(name)))) for name in compared.names)]
        self.query_one("#settings", Rows).load(columns, len(compared.lines), compared.lines.__getitem__)
        self._draw()
        self.screen.refresh_bindings()

    def _draw(self) -> None:
        if self.compared is None or not self.compared.phases:
            self.query_one(Chart).show({})
            return
        names = list(self.compared.phases)
        name = names[self.shown_phase % len(names)]
        number = self.shown_phase % len(names) + 1
        of = f" ({number} of {len(names)}: [ ])" if len(names) > 1 else ""
        # A run that has no such phase still has its colour.
        colours = {run: RUNS[place] for place, run in enumerate(self.compared.names)}
        self.query_one(Chart).show(self.compared.phases[name], note=f"{name}, by epoch{of}", colours=colours)

    def action_phase(self, by: int) -> None:
        self.shown_phase += by
        self._draw()

    def action_first(self) -> None:
        self.first_run += 1
        self.entered()


def compare(workspace: Workspace, rows: list[RunRow]) -> Compared:
    """Compare runs with the first of them.

    This reads events and ranks of every run, so it must not be called in the thread that draws.
    """
    names = short_names([row.name for row in rows])
    phases: dict[str, dict[str, Curve]] = {ALL_PHASES: {}}
    for name, row in zip(names, rows, strict=True):
        state = fold_all(row.folder)
        if len(whole := state.whole()):
            phases[ALL_PHASES][name] = whole
        for phase in state.phases.values():
            if phase.ndcg:
                mean = phase.ndcg.get("mean") or next(iter(phase.ndcg.values()))
                phases.setdefault(phase.name, {})[name] = mean
    if len(phases) < 3:
        del phases[ALL_PHASES]
    settings = [flat({**row.plan.get("settings", {}), "run": _facts(row)}) for row in rows]
    keys = list(dict.fromkeys(name for values in settings for name in values))
    lines = [
        (name, *(values.get(name, "-") for values in settings))
        for name in keys
        if name not in HIDDEN_SETTINGS and len({values.get(name) for values in settings}) > 1
    ]
    differences, notes = [], []
    for name, row in zip(names[1:], rows[1:], strict=True):
        try:
            differences += _paired(workspace, rows[0], row, name)
        except (OSError, ValueError, UserError) as error:
            notes.append(f"{safe(name, 40)}: {safe(error, 100)}")
    return Compared(names=names, phases=phases, lines=lines, differences=differences, notes=notes)


def _facts(row: RunRow) -> dict[str, Any]:
    """Return the facts of a run that are compared beside its settings."""
    return {
        name: value for name, value in row.plan.items() if name in ("data", "data_key", "preset", "llm", "device")
    }


def _paired(workspace: Workspace, first: RunRow, second: RunRow, name: str) -> list[tuple[str, ...]]:
    """Return the paired difference of two runs in each domain, over the users that both have ranks for.

    Raises:
        ValueError: If the runs cannot be paired.
    """
    import polars as pl

    from edt_cli.evaluation.significance import ndcg_of, paired_bootstrap

    def ranks(row: RunRow) -> pl.DataFrame:
        try:
            return pl.read_parquet(_ranks(row), glob=False).select("user", "item", "domain", "rank_full")
        except pl.exceptions.PolarsError:
            raise ValueError(f"the ranks of {row.name} are damaged: remove them, then edt eval") from None

    if first.plan.get("data_key") != second.plan.get("data_key"):
        raise ValueError("made on other data, no paired difference")
    both = ranks(first).join(ranks(second), on=["user", "item", "domain"], suffix="_second")
    if both.is_empty():
        raise ValueError("no user in common, no paired difference")
    domains = workspace.dataset(first.data).manifest()["domains"]
    differences: list[tuple[str, ...]] = []
    for number in sorted(both["domain"].unique()):
        in_domain = both.filter(pl.col("domain") == number)
        a, b = (ndcg_of(in_domain[column].to_numpy()) for column in ("rank_full", "rank_full_second"))
        d = paired_bootstrap(a, b)
        interval, clear = f"[{d.low:+.4f}, {d.high:+.4f}]", "yes" if d.clear else "no"
        means = (f"{a.mean():.4f}", f"{b.mean():.4f}", f"{d.mean:+.4f}")
        tone = ("good" if d.mean > 0 else "bad") if d.clear else ""
        shown = (means[0], means[1], Tinted(means[2], tone), interval, Tinted(clear, tone), f"{d.users:,}")
        differences.append((name, Tinted(domains[number], domain_tone(int(number))), *shown))
    return differences


def _ranks(row: RunRow) -> Path:
    path = row.folder / RANKS
    if not path.is_file():
        raise ValueError(f"{row.name} has no ranks yet: edt eval --run {row.name}")
    return path
