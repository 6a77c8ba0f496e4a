"""Screen of the workspace, with sections for datasets, runs, comparison, tables, users and the LLM cache.

The first section is drawn before the others are imported and before all runs are read: that is half of the start.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import ContentSwitcher

from edt_cli.inference.listing import RunRow
from edt_cli.ui.dashboard import Dashboard
from edt_cli.ui.library import RunReader, Shelf, spent_usd
from edt_cli.ui.messages import ShowUsers
from edt_cli.ui.rows import Rows
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.sections import Sections
from edt_cli.ui.text import short, size
from edt_cli.ui.tones import Tinted, muted
from edt_cli.workspace.layout import Workspace, size_on_disk

FIRST_RUNS = 60
"""Number of runs, the newest ones, that the first drawing waits for."""
REREAD_S = 3.0
AGES_S = 60.0
"""Seconds between two drawings of how long ago something was."""


class Home(EdtScreen):
    """Screen of the workspace.

    It reads the runs every few seconds; a section reads its other data when it comes to the front.
    """

    names: ClassVar[list[str]] = ["Home", "Datasets", "Runs", "Compare", "Tables", "Users", "LLM"]
    first_number: ClassVar[int] = 0

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = Shelf()
        self._reader = RunReader(workspace)
        self.spent: float | None = None
        self._disk = ""
        self._reading = False
        self._whole = False
        """Whether all sections are there."""
        self._wanted = ""

    def panes(self) -> list[Widget]:
        return [Dashboard(self.workspace, self.shelf)]

    async def _mount_others(self) -> None:
        """Mount the sections behind the first one, and show the one that was asked for in the meantime."""
        from edt_cli.ui.compare import Compare
        from edt_cli.ui.datasets import Datasets
        from edt_cli.ui.llm import LlmCache
        from edt_cli.ui.runs import Runs
        from edt_cli.ui.tables import Tables
        from edt_cli.ui.users import Users

        workspace, shelf = self.workspace, self.shelf
        panes = [
            Datasets(workspace),
            Runs(shelf),
            Compare(workspace, shelf),
            Tables(shelf),
            Users(workspace, shelf),
            LlmCache(workspace.cache),
        ]
        self.name_panes(panes, first=1)
        for pane in panes:
            pane.display = False
        await self.query_one("#panes", ContentSwitcher).mount(*panes)
        self._whole = True
        self.pane("Runs").show()
        if self._wanted:
            self.choose(self._wanted)

    def choose(self, name: str, *, focus: bool = True) -> None:
        """Bring a section to the front, as soon as it is there."""
        if self._whole or name == self.names[0]:
            super().choose(name, focus=focus)
        else:
            self._wanted = name

    def on_mount(self) -> None:
        self.say(f"edt > workspace {_short_path(self.workspace.root)}", "reading")
        self.set_interval(REREAD_S, self.reread)
        self.set_interval(AGES_S, self._draw_ages)
        self.run_worker(self._start(), exit_on_error=False)

    async def _start(self) -> None:
        await self.reread(FIRST_RUNS)
        self.choose("Home")
        await self._mount_others()
        await self.reread()
        self.spent = await asyncio.to_thread(spent_usd, self.workspace)
        disk = await asyncio.to_thread(size_on_disk, self.workspace.root)
        self._disk = f"disk {size(disk)}"
        self.update_counts()

    async def reread(self, most: int | None = None) -> None:
        """Read the runs, or the newest `most`, unless they are being read already."""
        if self._reading:
            return
        self._reading = True
        try:
            runs = await asyncio.to_thread(self._reader.read, most)
        finally:
            self._reading = False
        if not self.is_attached:
            return
        if runs != self.shelf.runs or not self.shelf.read:
            self.shelf.put(runs)
            self.pane("Home").show()
            if self._whole:
                self.pane("Runs").show()
        await self.pane("Home").reread()
        self.update_counts()

    def _draw_ages(self) -> None:
        for rows in self.query(Rows):
            rows.refresh()

    def action_back(self) -> None:
        """Go one step back: from a filter to all rows, from a section to the first one."""
        if not self.pane(self.chosen).clear_filter() and self.chosen != self.names[0]:
            self.choose(self.names[0])

    def update_counts(self) -> None:
        """Update the line at the top and the counts beside the sections."""
        if not self.is_attached or not self._whole:
            return
        live = self.pane("Home").at_work
        cost = f"spent ${self.spent:.2f}" if self.spent else ""
        live_text = Tinted(f"{live} at work", "live" if live else "muted")
        parts = [part for told in (self._disk, cost) if told for part in ("  ", muted(told))]
        self.say(f"edt > workspace {_short_path(self.workspace.root)}", live_text, *parts)
        sections = self.query_one(Sections)
        sections.count("Runs", short(len(self.shelf.runs)))
        sections.count("Compare", str(len(self.shelf.marked)) if self.shelf.marked else "")
        sections.count("Datasets", short(len(self.workspace.datasets())))

    def on_marks_changed(self) -> None:
        self.update_counts()

    def on_show_users(self, event: ShowUsers) -> None:
        event.stop()
        self.show_users(event.data, event.row)

    def show_users(self, data: str, row: RunRow | None = None, user: str | None = None) -> None:
        """Show the users of `data` with the artefacts of `row`, or one of them."""
        self.choose("Users")
        self.pane("Users").open(data, row, user)

    def show_table(self, number: int) -> None:
        """Show a table by its position in the list of tables."""
        self.choose("Tables")
        self.pane("Tables").query_one("#names", Rows).action_go(number)


def _short_path(path: Path) -> str:
    """Return a path with the home folder as `~`."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
