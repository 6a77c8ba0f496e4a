"""Screen of one run, which is watched while it is made and read when it is finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from edt_cli.inference.listing import read_run, results_of
from edt_cli.ui.chart import Chart
from edt_cli.ui.dialogs import Stop
from edt_cli.ui.followed import Followed
from edt_cli.ui.library import manifest_of, sign
from edt_cli.ui.machine import read_machine
from edt_cli.ui.messages import Polled, ShowUsers
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import flat, paragraph
from edt_cli.ui.watch import Watch
from edt_cli.workspace.events import Request
from edt_cli.workspace.status import RunStatus

POLL_S = 0.5
MACHINE_S = 2.0
SHOWN = ("users", "hr@5", "ndcg@5", "hr@10", "ndcg@10", "hr@20", "ndcg@20", "mrr")
Line = tuple[str, ...]


class Listing(Vertical):
    """List of lines, with the full text of the line under the cursor below it."""

    DEFAULT_CSS = """
    Listing #whole { height: 3; }
    """

    def __init__(self, empty: str) -> None:
        super().__init__()
        self.empty = empty
        self.lines: Sequence[Line] = []

    def compose(self) -> ComposeResult:
        yield Rows(empty=self.empty)
        yield Static(id="whole", classes="bar", markup=False)

    def show(self, columns: list[Col], lines: Sequence[Line]) -> None:
        self.lines = lines
        self.query_one(Rows).load(columns, len(lines), lines.__getitem__)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        line = self.lines[event.row] if event.row < len(self.lines) else ()
        self.query_one("#whole", Static).update(paragraph("  ".join(line), 2000))


class RunScreen(EdtScreen):
    """Screen of one run; `q` and esc leave it running, `x` asks how to stop it."""

    names: ClassVar[list[str]] = ["Watch", "Results", "Groups", "Settings", "Manifest", "Log"]
    BINDINGS = [
        Binding("p", "pause", "Pause"),
        Binding("x", "stop", "Stop"),
        Binding("d", "app.leave", "Detach"),
        Binding("z", "zoom", "Zoom"),
        Binding("L", "log_axis", "Log axis", key_display="L"),
        Binding("left_square_bracket", "phase(-1)", "Phase before", key_display="[", show=False),
        Binding("right_square_bracket", "phase(1)", "Phase after", key_display="]", show=False),
        Binding("u", "users", "Users", show=False),
    ]

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self.followed = followed
        self._reading = False
        self._loaded: tuple[str, str] = ("", "")

    def panes(self) -> list[Widget]:
        return [
            Watch(),
            Listing("no results: edt eval, once the run is finished"),
            Listing("no groups: edt eval, once the run is finished"),
            Listing("the run has no readable settings"),
            Listing("no manifest before the run is finished"),
            Listing("no line yet"),
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
        finally:
            self._reading = False
        self.post_message(Polled())

    def show_all(self) -> None:
        """Draw the section at the front, and the results if they are new."""
        followed = self.followed
        kind = "runs" if followed.run else "jobs"
        self.say(f"edt > {kind} > {followed.name}", sign(followed.status))
        if self.chosen == "Watch":
            self.pane("Watch").show(followed)
        elif self.chosen == "Log":
            self._show_log()
        here = (followed.name, followed.status)
        if here != self._loaded and followed.run is not None:
            self._loaded = here
            self._show_results()

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_all)

    async def _read_machine(self) -> None:
        if self.followed.pid is not None:
            watch = self.pane("Watch")
            watch.machine = await asyncio.to_thread(read_machine, self.followed.pid)
            self.show_all()

    def choose(self, name: str) -> None:
        super().choose(name)
        self.show_all()

    def _show_results(self) -> None:
        assert self.followed.run is not None
        folder = self.followed.run.folder
        row = read_run(folder)
        documents = results_of(folder)
        results, groups = [], []
        for document in documents:
            name = str(document.get("file", ""))
            for domain, figures in {**document["domains"], "overall": document.get("overall", {})}.items():
                results.append((name, domain, *(_figure(figures.get(metric)) for metric in SHOWN)))
            for grouping, group_figures in (document.get("groups") or {}).items():
                for group, domains in group_figures.items():
                    for domain, figures in domains.items():
                        values = (_figure(figures.get(metric)) for metric in SHOWN)
                        groups.append((name, grouping, group, domain, *values))
        metrics = [Col(name, 7, right=True) for name in SHOWN]
        self.pane("Results").show([Col("result", 16), Col("domain", 12), *metrics], results)
        heads = [Col("result", 16), Col("by", 9), Col("group", 12), Col("domain", 12)]
        self.pane("Groups").show([*heads, *metrics], groups)
        settings = row.plan.get("settings", {}) if row.plan else {}
        setting_columns = [Col("name", 30), Col("value", 44)]
        began_with = {f"run.{name}": value for name, value in row.plan.items() if name != "settings"}
        self.pane("Settings").show(setting_columns, list(flat({**settings, **began_with}).items()))
        manifest = {name: value for name, value in manifest_of(folder).items() if name != "plan"}
        self.pane("Manifest").show(setting_columns, list(flat(manifest).items()))

    def _show_log(self) -> None:
        lines = [(time.strftime("%H:%M:%S", time.localtime(moment)), text) for moment, text in self.followed.log]
        pane = self.pane("Log")
        if lines != pane.lines:
            rows = pane.query_one(Rows)
            at_end = rows.cursor >= len(pane.lines) - 1
            pane.show([Col("time", 8), Col("what", 60)], lines)
            if at_end:
                rows.action_go(-1)

    def action_pause(self) -> None:
        if not self._at_work():
            return
        paused = self.followed.status == RunStatus.PAUSED or self.followed.working.requested == "pause"
        self._request("run" if paused else "pause")

    def action_stop(self) -> None:
        def answered(request: Request | None) -> None:
            if request is not None and self._at_work():
                self._request(request)

        if self._at_work():
            self.app.push_screen(Stop(), answered)

    def _request(self, request: Request) -> None:
        try:
            self.followed.request(request)
        except OSError as error:
            self.notify(f"cannot ask the run: {error.strerror}", severity="error", markup=False)
        self.show_all()

    def _at_work(self) -> bool:
        if self.followed.ended or not self.followed.process_alive:
            self.notify(f"this run is {self.followed.status}: nothing is at work", markup=False)
            return False
        return True

    def action_zoom(self) -> None:
        self.pane("Watch").toggle_class("zoomed")

    def action_log_axis(self) -> None:
        self.query_one("#loss", Chart).toggle_log()

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


def _figure(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else ""
