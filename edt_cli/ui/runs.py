"""Section of the runs, which can be sorted by a column, filtered, and marked for comparison."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow
from edt_cli.ui.act_keys import ACTS, act_bindings, possible
from edt_cli.ui.dialogs import Question
from edt_cli.ui.filters import parse
from edt_cli.ui.leaderboard import datasets_with_runs
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
HINT = "filter: words, model:llm-edt, ndcg_food>.13, seed=42, !failed; all must hold"


class Runs(Pane):
    """Section of the runs that match the filter, in the order chosen with `o`."""

    BINDINGS = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("D", "next_data", "Next dataset", key_display="D"),
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
        key, down = self.sorted_by
        if key:
            known = [row for row in self.rows if _value(row, key) is not None]
            known.sort(key=lambda row: _value(row, key), reverse=down)
            self.rows = known + [row for row in self.rows if _value(row, key) is None]
        cursor = next((number for number, row in enumerate(self.rows) if row.name == run_name), 0)
        known_figures = dict.fromkeys(name for row in of_data for name in row.figures)
        domains = list(dict.fromkeys(name.partition("_")[2] for name in known_figures))
        figures = sorted(known_figures, key=lambda name: figure_order(name, domains))[:24]
        columns = [
            Col("run", 29, key="name"),
            Col("state", 10, key="status"),
            *(
                Col(
                    short_figure(name),
                    max(6, len(short_figure(name))),
                    right=True,
                    key=name,
                    tone=domain_tone(domains.index(name.partition("_")[2])),
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
        summary += f"{len(self.rows)} of {len(self._of_data())}{marked}"
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
        alone = len(chosen) == 1 or parameters[0] in ("new", "stop", "delete")
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
            self.reads(lambda: look.read(row), look.show_curves)

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
        name = self.rows[event.row].name
        self.shelf.marked.symmetric_difference_update({name})
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


def _value(row: RunRow, key: str) -> Any:
    return row.figures.get(key) if key in row.figures or "_" in key else getattr(row, key)
