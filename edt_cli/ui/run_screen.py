"""Screen of one run, which is watched while it is made and read when it is finished."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual.binding import Binding
from textual.widget import Widget

from edt_cli.inference.listing import RunRow, read_run, read_runs, results_of
from edt_cli.ui.ablation import Variant, variants_of
from edt_cli.ui.act_keys import ACTS, act_bindings, possible
from edt_cli.ui.chart import Chart
from edt_cli.ui.followed import Followed
from edt_cli.ui.leaderboard import Leaderboard, leaderboard
from edt_cli.ui.library import data_label, manifest_of
from edt_cli.ui.listing import Listing
from edt_cli.ui.log_list import LogList
from edt_cli.ui.machine import read_machine
from edt_cli.ui.messages import Act, Polled, ShowUsers
from edt_cli.ui.results import SHOWN, Results, group_lines
from edt_cli.ui.rows import Col
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import flat
from edt_cli.ui.tones import sign
from edt_cli.ui.watch import Losses, Watch
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.status import RunStatus

POLL_S = 0.5
MACHINE_S = 2.0


class RunScreen(EdtScreen):
    """Screen of one run; `q` and esc leave it running, `x` asks how to stop it."""

    names: ClassVar[list[str]] = ["Watch", "Results", "Groups", "Settings", "Manifest", "Log"]
    BINDINGS = [
        Binding("p", "act('pause')", "Pause"),
        *act_bindings(*(name for name in ACTS if name != "new")),
        Binding("d", "app.leave", "Detach"),
        Binding("z", "zoom", "Zoom"),
        Binding("m", "next_term", "Next loss"),
        Binding("L", "log_axis", "Log axis", key_display="L", show=False),
        Binding("left_square_bracket", "phase(-1)", "Phase before", key_display="[", show=False),
        Binding("right_square_bracket", "phase(1)", "Phase after", key_display="]", show=False),
        Binding("u", "users", "Users", show=False),
    ]

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self.followed = followed
        self._reading = False
        self._chosen_by_hand = False
        self._opened = False
        self._footer_for: tuple[object, ...] = ()
        self._loaded: tuple[str, str, bool] = ("", "", False)

    @property
    def reading(self) -> bool:
        return not self._opened

    def panes(self) -> list[Widget]:
        return [
            Watch(),
            Results(),
            Listing("no groups: edt eval, once the run is finished"),
            Listing("the run has no readable settings"),
            Listing("no manifest before the run is finished"),
            LogList("no line yet"),
        ]

    def on_mount(self) -> None:
        self.set_interval(POLL_S, self.poll)
        self.set_interval(MACHINE_S, self._read_machine)
        self.call_after_refresh(self.poll)
        self.call_after_refresh(self._read_machine)

    async def poll(self) -> None:
        """Read in another thread, then fold and draw in this one, unless a reading is going on."""
        if self._reading:
            return
        self._reading = True
        try:
            more = True
            while more and self.is_attached:
                news = await asyncio.to_thread(self.followed.read)
                more = self.followed.take(news)
                self.show_all()
            self._open_at_result()
        finally:
            self._reading = False
        self.post_message(Polled())

    def show_all(self) -> None:
        """Draw the section at the front, and the results if they are new."""
        followed = self.followed
        kind = "runs" if followed.run else "jobs"
        self.say(f"edt > {kind} > {followed.name}", sign(followed.status))
        self.refresh_bindings_if_changed()
        if self.chosen == "Watch":
            self.pane("Watch").show(followed)
        elif self.chosen == "Log":
            self.pane("Log").follow(followed.log, followed.errors)
        here = (followed.name, followed.status, followed.has_results)
        if here != self._loaded and followed.run is not None:
            self._loaded = here
            self.run_worker(self._read_results(), exclusive=True, group="results")

    def refresh_bindings_if_changed(self) -> None:
        """Let the footer show what can be done now."""
        training = self.followed.phase is not None
        now = (self.followed.status, self.followed.process_alive, self.chosen, training)
        if now != self._footer_for:
            self._footer_for = now
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        followed = self.followed
        if action == "act":
            name = str(parameters[0])
            if name in ("pause", "stop"):
                return followed.at_work and (name == "stop" or followed.obedient)
            of_run = followed.run is not None or name in ("resume", "copy")
            return of_run and not (followed.at_work and name == "delete") and possible(name, [followed.status])
        if action in ("zoom", "next_term", "log_axis", "phase"):
            return self.chosen == "Watch" and self.followed.phase is not None
        return super().check_action(action, parameters)

    def _open_at_result(self) -> None:
        """Open a finished run at its result, a running one at its curves, unless a section was chosen already."""
        if not self._opened and self.is_attached:
            self._opened = True
            finished = self.followed.status == RunStatus.FINISHED and self.followed.has_results
            if finished and not self._chosen_by_hand:
                super().choose("Results")

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_all)

    async def _read_machine(self) -> None:
        if self.followed.pid is not None:
            watch = self.pane("Watch")
            watch.machine = await asyncio.to_thread(read_machine, self.followed.pid, self.followed.device)
            self.show_all()

    def choose(self, name: str, *, focus: bool = True) -> None:
        self._chosen_by_hand = True
        super().choose(name, focus=focus)
        self.show_all()

    async def _read_results(self) -> None:
        """Read the results of the run and of others on its data in another thread, then show them."""
        assert self.followed.run is not None
        folder = self.followed.run.folder

        def read() -> tuple[RunRow, list[RunResult], Leaderboard, list[Variant]]:
            row = read_run(folder)
            rows = read_runs(self.followed.workspace) if row.figures else []
            variants = variants_of(row, rows) if row.figures else []
            return row, results_of(folder), leaderboard(rows, row.data), variants

        row, documents, board, variants = await asyncio.to_thread(read)
        if self.is_attached:
            label = data_label(self.followed.workspace, row.data)
            self.pane("Results").show(row, documents, board, variants, label)
            self._show_documents(row, documents)

    def _show_documents(self, row: RunRow, documents: list[RunResult]) -> None:
        metrics = [Col(name, 7, right=True) for name in SHOWN]
        heads = [Col("result", 24), Col("by", 9), Col("group", 14), Col("domain", 14)]
        self.pane("Groups").show([*heads, *metrics], group_lines(documents))
        settings = row.plan.get("settings", {}) if row.plan else {}
        setting_columns = [Col("name", 34), Col("value", 40, grow=True)]
        began_with = {f"run.{name}": value for name, value in row.plan.items() if name != "settings"}
        self.pane("Settings").show(setting_columns, list(flat({**settings, **began_with}).items()))
        manifest = {name: value for name, value in manifest_of(row.folder).items() if name != "plan"}
        self.pane("Manifest").show(setting_columns, list(flat(manifest).items()))

    def action_act(self, name: str) -> None:
        run = self.followed.run
        self.post_message(Act(name, [run.folder if run is not None else self.followed.parts[0].folder]))

    def action_zoom(self) -> None:
        self.pane("Watch").toggle_class("zoomed")

    def action_log_axis(self) -> None:
        """Switch the axes of the losses, whichever widget is in focus."""
        for chart in self.query_one(Losses).query(Chart):
            chart.action_log_axis()

    def action_next_term(self) -> None:
        self.query_one(Losses).next_term()
        self.show_all()

    def action_phase(self, by: int) -> None:
        watch = self.pane("Watch")
        names = list(self.followed.run.state.phases) if self.followed.run else []
        if names:
            shown = watch.shown_phase if watch.shown_phase in names else names[-1]
            index = min(max(0, names.index(shown) + by), len(names) - 1)
            watch.shown_phase = None if index == len(names) - 1 else names[index]
            self.show_all()

    def action_users(self) -> None:
        if self.followed.run is not None:
            row = read_run(self.followed.run.folder)
            self.post_message(ShowUsers(row.data, row))
