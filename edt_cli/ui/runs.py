"""Section of the runs, which can be sorted by a column, filtered, and marked for comparison."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow
from edt_cli.reporting.table import Measure
from edt_cli.ui.act_keys import ACTS, act_bindings, possible
from edt_cli.ui.dialogs import Question
from edt_cli.ui.filters import parse
from edt_cli.ui.leaderboard import Standing, datasets_with_runs, leaderboard
from edt_cli.ui.library import Shelf
from edt_cli.ui.look import Look
from edt_cli.ui.messages import Act, MarksChanged, OpenRun, ShowUsers
from edt_cli.ui.names import figure_order, short_figure
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import ago, safe
from edt_cli.ui.tones import Tinted, domain_tone, muted, sign
from edt_cli.workspace.status import RunStatus

NO_RUN = "no run yet: edt train --data demo"
REST_S = 0.08
"""Seconds that the cursor rests before the curve of its run is read."""
HINT = "filter: words, model:llm-edt, ndcg_food>.13, seed=42, !failed; all must hold"


class Runs(Pane):
    """Section of the runs that match the filter, in the order chosen with `o`."""

    BINDINGS = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("D", "next_data", "Next dataset", key_display="D", show=False),
        Binding("b", "by_system", "By system"),
        *act_bindings(*ACTS),
        Binding("c", "screen.choose('Compare')", "Compare"),
        Binding("u", "users", "Users", show=False),
        Binding("M", "unmark", "Unmark all", show=False),
    ]
    DEFAULT_CSS = """
    Runs { layout: vertical; }
    Runs #list { height: 1fr; width: 1fr; }
    Runs #summary { height: 1; }
    Runs Look { height: 8; width: 1fr; }
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self.shelf = shelf
        self.rows: list[RunRow] = []
        """The runs of the list, in its order; by system, the newest run of each."""
        self.groups: list[Standing] = []
        """The systems of the list, where it is by system."""
        self.by_system = False
        self.data = ""
        self.text = ""
        self.sorted_by = ("", False)
        self._figures: list[str] = []
        self._summary = ""
        self._footer_for: list[RunStatus] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="list"):
            yield Static(id="summary", classes="bar", markup=False)
            yield Rows(empty="reading ...")
        yield Look(self.shelf)

    def show(self) -> None:
        """Show the runs on the shelf, filtered and sorted; the cursor stays on its run."""
        rows = self.query_one(Rows)
        rows.empty = "no run has that in it" if self.shelf.runs else NO_RUN if self.shelf.read else "reading ..."
        run_name = self.rows[rows.cursor].name if rows.cursor < len(self.rows) else ""
        try:
            test = parse(self.text)
        except UserError as error:
            self.failed(str(error))
            return
        names = datasets_with_runs(self.shelf.runs)
        self.data = self.data if self.data in names else (names[0] if names else "")
        of_data = self._of_data()
        self.rows = [row for row in of_data if test(row.fields)] if self.text else of_data
        self.groups = leaderboard(self.rows, self.data).standings if self.by_system else []
        if self.by_system:
            self._show_systems(rows)
            return
        key, down = self.sorted_by
        if key:
            known = [row for row in self.rows if _value(row, key) is not None]
            known.sort(key=lambda row: _value(row, key), reverse=down)
            self.rows = known + [row for row in self.rows if _value(row, key) is None]
        cursor = next((number for number, row in enumerate(self.rows) if row.name == run_name), 0)
        figures = self._known_figures(of_data)
        domains = _domains(figures)
        columns = [
            Col("run", 29, key="name"),
            Col("state", 10, key="status"),
            *(
                Col(
                    short_figure(name),
                    max(6, len(short_figure(name))),
                    right=True,
                    key=name,
                    tone=_tone(name, domains),
                )
                for name in figures
            ),
            Col("when", 5, right=True, key="when"),
            Col("seed", 4, right=True, key="seed"),
            Col("system", 22, key="title"),
        ]
        self._figures = figures
        rows.load(columns, len(self.rows), self._cells, cursor=cursor, sorted_by=self.sorted_by)
        self._update_summary()

    def _show_systems(self, rows: Rows) -> None:
        """Show a line for each system: means and sample deviations over its runs, the best first."""
        key, down = self.sorted_by
        if key in ("title", "when"):
            self.groups.sort(key=lambda group: getattr(group, key), reverse=down)
        elif key:
            self.groups.sort(key=lambda group: group.figures.get(key, 0.0), reverse=down)
        self.rows = [group.rows[0] for group in self.groups]
        self._figures = self._known_figures(self.rows)
        domains = _domains(self._figures)
        columns = [
            Col("system", 29, key="title"),
            Col("runs", 4, right=True),
            *(
                Col(short_figure(name), 12, right=True, key=name, tone=_tone(name, domains))
                for name in self._figures
            ),
            Col("when", 5, right=True, key="when"),
        ]
        rows.empty = "no finished run is evaluated" if self.shelf.runs else NO_RUN
        rows.load(columns, len(self.groups), self._system_cells, sorted_by=self.sorted_by)
        self._update_summary()

    def _system_cells(self, number: int) -> tuple[str, ...]:
        group = self.groups[number]
        marked = all(row.name in self.shelf.marked for row in group.rows)
        figures = (
            str(Measure(group.figures[name], group.deviations.get(name))) if name in group.figures else ""
            for name in self._figures
        )
        return (
            Tinted(f"{'*' if marked else ' '}{group.title}", "accent" if marked else ""),
            str(len(group.rows)),
            *figures,
            muted(ago(time.time() - group.when)),
        )

    @staticmethod
    def _known_figures(rows: list[RunRow]) -> list[str]:
        """Return the figures that any run has, NDCG first."""
        known = dict.fromkeys(name for row in rows for name in row.figures)
        domains = _domains(known)
        return sorted(known, key=lambda name: figure_order(name, domains))[:24]

    def action_by_system(self) -> None:
        """Show a line for each system in place of each run, or each run again."""
        self.by_system = not self.by_system
        self.sorted_by = ("", False)
        self.query_one(Rows).action_go(0)
        self.show()

    def _of_data(self) -> list[RunRow]:
        """Return the runs on the chosen dataset, and those that cannot be read."""
        return [row for row in self.shelf.runs if row.data == self.data or not row.data]

    def _cells(self, number: int) -> tuple[str, ...]:
        row = self.rows[number]
        marked = row.name in self.shelf.marked
        mark = "*" if marked else " "
        seed = "" if row.seed is None else str(row.seed)
        figures = (f"{row.figures[name]:.4f}" if name in row.figures else "" for name in self._figures)
        return (
            Tinted(f"{mark}{row.annotations.name or row.name}", "accent" if marked else ""),
            sign(row.status),
            *figures,
            muted(ago(time.time() - row.when)),
            seed,
            row.title,
        )

    def _update_summary(self) -> None:
        marked = f"  {len(self.shelf.marked)} marked" if self.shelf.marked else ""
        names = datasets_with_runs(self.shelf.runs)
        of = f" of {len(names)} datasets: D" if len(names) > 1 else ""
        place = f" ({names.index(self.data) + 1}{of})" if of else ""
        summary = f" {safe(self.data, 40)}{place}  / {safe(self.text, 200) or 'all'}   "
        what = f"{len(self.groups)} systems of " if self.by_system else f"{len(self.rows)} of "
        summary += f"{what}{len(self._of_data())}{' runs: mean and deviation' if self.by_system else ''}{marked}"
        if summary != self._summary:
            self._summary = summary
            self.query_one("#summary", Static).update(summary)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        self._look()
        statuses = [row.status for row in self._chosen()]
        if statuses != self._footer_for:
            self._footer_for = statuses
            self.screen.refresh_bindings()

    def _chosen(self) -> list[RunRow]:
        """Return the run under the cursor, or all marked ones if it is one of them."""
        cursor = self.query_one(Rows).cursor
        if cursor >= len(self.rows):
            return []
        row = self.rows[cursor]
        return self.shelf.marked_runs() if row.name in self.shelf.marked else [row]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "act":
            return True
        chosen = self._chosen()
        alone = len(chosen) == 1 or parameters[0] in ("new", "stop", "delete", "tag")
        return alone and possible(str(parameters[0]), [row.status for row in chosen])

    def action_act(self, name: str) -> None:
        self.post_message(Act(name, [row.folder for row in self._chosen()]))

    def _look(self) -> None:
        """Show the run under the cursor beside the list."""
        cursor, look = self.query_one(Rows).cursor, self.query_one(Look)
        row = self.rows[cursor] if cursor < len(self.rows) else None
        look.show_facts(row)
        if row is None:
            look.show_curves({})
        else:
            self.reads(lambda: look.read(row), look.show_curves, after=REST_S)

    def action_next_data(self) -> None:
        names = datasets_with_runs(self.shelf.runs)
        if names:
            self.data = names[(names.index(self.data) + 1) % len(names)] if self.data in names else names[0]
            self.sorted_by = ("", False)
            self.show()

    def on_rows_sorted(self, event: Rows.Sorted) -> None:
        key, down = self.sorted_by
        # The first sort of numbers is descending, that of names ascending.
        descending = event.key not in ("name", "status", "title", "data", "seed")
        self.sorted_by = (event.key, not down) if key == event.key else (event.key, descending)
        self.show()

    def on_rows_marked(self, event: Rows.Marked) -> None:
        names = {row.name for row in (self.groups[event.row].rows if self.by_system else [self.rows[event.row]])}
        if names <= self.shelf.marked:
            self.shelf.marked -= names
        else:
            self.shelf.marked |= names
        rows = self.query_one(Rows)
        rows.refresh()
        rows.action_move(1)
        self._update_summary()
        self.post_message(MarksChanged())

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        self.post_message(OpenRun(self.rows[event.row].folder))

    def action_filter(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.text = text
                self.show()

        def typed(text: str) -> None:
            # Half a comparison is no mistake yet.
            with suppress(UserError):
                parse(text)
                self.text = text
                self.show()

        self.app.push_screen(Question(HINT, self.text, typed), answered)

    def clear_filter(self) -> bool:
        had, self.text = bool(self.text), ""
        if had:
            self.show()
        return had

    def action_users(self) -> None:
        rows = self.query_one(Rows)
        if rows.cursor < len(self.rows):
            row = self.rows[rows.cursor]
            self.post_message(ShowUsers(row.data, row))

    def action_unmark(self) -> None:
        self.shelf.marked.clear()
        self.query_one(Rows).refresh()
        self._update_summary()
        self._look()
        self.post_message(MarksChanged())


def _domains(figures: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition("_")[2] for name in figures))


def _tone(figure: str, domains: list[str]) -> str:
    return domain_tone(domains.index(figure.partition("_")[2]))


def _value(row: RunRow, key: str) -> Any:
    return row.figures.get(key) if key in row.figures or "_" in key else getattr(row, key)
