"""Section of the runs, which can be sorted by a column, filtered, and marked for comparison."""

from __future__ import annotations

import time
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow
from edt_cli.ui.dialogs import Question
from edt_cli.ui.filters import parse
from edt_cli.ui.library import Shelf, sign
from edt_cli.ui.messages import MarksChanged, OpenRun, ShowUsers
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import ago, flat, safe
from edt_cli.workspace.status import RunStatus

NO_RUN = "no run yet: edt train --data demo"
HINT = "filter: words, model:llm-edt, ndcg_food>.13, seed=42, !failed; all must hold"


class Runs(Pane):
    """Section of the runs that match the filter, in the order chosen with `o`."""

    BINDINGS = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("c", "screen.choose('Compare')", "Compare"),
        Binding("u", "users", "Users", show=False),
        Binding("M", "unmark", "Unmark all", show=False),
    ]
    DEFAULT_CSS = """
    Runs { layout: vertical; }
    Runs #summary { height: 1; }
    Runs #facts { height: 7; }
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self.shelf = shelf
        self.rows: list[RunRow] = []
        self.text = ""
        self.sorted_by = ("", False)
        self._figures: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static(id="summary", classes="bar", markup=False)
        yield Rows(empty=NO_RUN)
        facts = Static(id="facts", classes="frame facts", markup=False)
        facts.border_title = "run"
        yield facts

    def show(self) -> None:
        """Show the runs on the shelf, filtered and sorted; the cursor stays on its run."""
        rows = self.query_one(Rows)
        rows.empty = "no run has that in it" if self.shelf.runs else NO_RUN
        run_name = self.rows[rows.cursor].name if rows.cursor < len(self.rows) else ""
        try:
            test = parse(self.text)
        except UserError as error:
            self.failed(str(error))
            return
        self.rows = [row for row in self.shelf.runs if test(row.fields)] if self.text else list(self.shelf.runs)
        key, down = self.sorted_by
        if key:
            known = [row for row in self.rows if _value(row, key) is not None]
            known.sort(key=lambda row: _value(row, key), reverse=down)
            self.rows = known + [row for row in self.rows if _value(row, key) is None]
        cursor = next((number for number, row in enumerate(self.rows) if row.name == run_name), 0)
        figures = sorted({name for row in self.shelf.runs for name in row.figures}, key=_figure_order)[:24]
        columns = [
            Col("run", 29, key="name"),
            Col("state", 10, key="status"),
            *(Col(_short(name), max(6, len(_short(name))), right=True, key=name) for name in figures),
            Col("when", 5, right=True, key="when"),
            Col("seed", 4, right=True, key="seed"),
            Col("system", 22, key="title"),
            Col("data", 14, key="data"),
        ]
        now = time.time()
        self._figures = figures
        rows.load(
            columns, len(self.rows), lambda row: self._cells(row, now), cursor=cursor, sorted_by=self.sorted_by
        )
        self._update_summary()

    def _cells(self, number: int, now: float) -> tuple[str, ...]:
        row = self.rows[number]
        mark = "*" if row.name in self.shelf.marked else " "
        seed = "" if row.seed is None else str(row.seed)
        figures = (f"{row.figures[name]:.4f}" if name in row.figures else "" for name in self._figures)
        return (
            f"{mark}{row.annotations.name or row.name}",
            sign(row.status),
            *figures,
            ago(now - row.when),
            seed,
            row.title,
            row.data,
        )

    def _update_summary(self) -> None:
        marked = f"  {len(self.shelf.marked)} marked" if self.shelf.marked else ""
        summary = f" / {safe(self.text, 200) or 'all'}   {len(self.rows)} of {len(self.shelf.runs)}{marked}"
        self.query_one("#summary", Static).update(summary)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        self.query_one("#facts", Static).update(self._facts(event.row))

    def _facts(self, number: int) -> str:
        if number >= len(self.rows):
            return ""
        row = self.rows[number]
        written = " ".join(filter(None, (row.annotations.name, *(f"#{tag}" for tag in row.annotations.tags))))
        lines = [f"{safe(row.name, 80)}   {sign(row.status)}   {safe(written, 200)}".rstrip()]
        if row.status == RunStatus.DAMAGED:
            return f"{lines[0]}\nrun.json or manifest.json cannot be read; remove its folder:\n{row.folder}"
        if row.figures:
            lines.append(
                "  ".join(
                    f"{_short(name)} {row.figures[name]:.4f}" for name in sorted(row.figures, key=_figure_order)
                )
            )
        others = [other for other in self.shelf.marked_runs() if other.name != row.name]
        if others:
            settings, first = (flat(run.plan.get("settings", {})) for run in (row, others[0]))
            differing = [
                f"{name} {first.get(name, '-')} -> {value}"
                for name, value in settings.items()
                if first.get(name) != value
            ]
            lines.append(safe(f"against {others[0].name}: {', '.join(differing) or 'the same settings'}", 600))
        else:
            lines.append("space marks a run; what this one sets otherwise is then shown here")
        llm = row.plan.get("llm")
        llm_name = f", {llm}" if llm else ""
        if given := row.plan.get("item_vectors"):
            llm_name += f", item vectors: given ({given})"
        lines.append(safe(f"{row.title} on {row.data}{llm_name}, {row.plan.get('device', '')}", 300))
        return "\n".join(line[:600] for line in lines)

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

        self.app.push_screen(Question(HINT, self.text), answered)

    def action_users(self) -> None:
        rows = self.query_one(Rows)
        if rows.cursor < len(self.rows):
            row = self.rows[rows.cursor]
            self.post_message(ShowUsers(row.data, row))

    def action_unmark(self) -> None:
        self.shelf.marked.clear()
        self.query_one(Rows).refresh()
        self._update_summary()
        self.post_message(MarksChanged())


def _value(row: RunRow, key: str) -> Any:
    return row.figures.get(key) if key in row.figures or "_" in key else getattr(row, key)


def _figure_order(name: str) -> tuple[bool, str]:
    metric, _, domain = name.partition("_")
    return metric != "ndcg", domain


def _short(name: str) -> str:
    metric, _, domain = name.partition("_")
    return safe(f"{domain} {'N' if metric == 'ndcg' else 'H'}", 14)
