"""Screen of one user: history with inserted items, generated items, profile, and recommendations of a run."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from edt_cli.inference.listing import RunRow
from edt_cli.ui.histories import Histories
from edt_cli.ui.library import Shelf
from edt_cli.ui.rows import Col
from edt_cli.ui.run_screen import Listing
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import paragraph, safe
from edt_cli.ui.tones import Tinted, domain_tone, muted
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

PARTS = {"train": "", "inserted": "+", "valid": "valid", "test": "test", "later": "later"}
COUNT = 20


class Profile(VerticalScroll, can_focus=True):
    """Profile of a user, as text."""

    def compose(self) -> ComposeResult:
        yield Static(id="profile", markup=False)


class UserScreen(EdtScreen):
    """Screen of one user.

    Recommendations come from `edt recommend` in a separate process: the app itself loads no model.
    """

    names: ClassVar[list[str]] = ["Timeline", "Generated", "Profile", "Recommended"]
    BINDINGS = [Binding("r", "next_run", "Next run", show=False)]

    def __init__(self, workspace: Workspace, shelf: Shelf, histories: Histories, user: int) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = shelf
        self.histories = histories
        self.user = user
        self.user_name = histories.dataset.user_ids[user]
        self._recommended_run: int | None = None
        self.run_number = 0

    def panes(self) -> list[Widget]:
        return [
            Listing("no interaction"),
            Listing("nothing was generated for this user"),
            Profile(),
            Listing("choose a run with r"),
        ]

    def on_mount(self) -> None:
        from edt_cli.inference.inspection import describe_user

        h = self.histories
        document = describe_user(h.dataset, h.augmentation, h.profiles, self.user, h.llm, train_on=h.train_on)
        counts = ", ".join(f"{name} {count}" for name, count in document["counts"].items())
        location = f"edt > users > {h.dataset.name} > {safe(self.user_name, 40)}"
        self.say(location, f"{counts}, r = {document['r']:.2f}")
        names = list(h.dataset.domains.names)
        tones = {name: domain_tone(place) for place, name in enumerate(names)}
        rows = [
            (
                str(number),
                Tinted(PARTS[item["part"]], "accent"),
                Tinted(item["domain"], tones.get(item["domain"], "")),
                _title(item["title"]),
                item["item"] or "made up",
            )
            for number, item in enumerate(document["history"], start=1)
        ]
        heads = [
            Col("#", 4, right=True),
            Col("", 6),
            Col("domain", 14),
            Col("title", 36, grow=True),
            Col("item", 12),
        ]
        self.pane("Timeline").show(heads, rows)
        generated = [
            (
                Tinted("yes", "good") if item["kept"] else muted("no"),
                Tinted(item["domain"], tones.get(item["domain"], "")),
                _title(item["title"]),
                _score(item["score_source"]),
                _score(item["score_target"]),
                _score(item["tau"]),
                str(item["reason"]),
            )
            for item in document["generated"]
        ]
        columns = [Col("kept", 4), Col("domain", 12), Col("title", 26, grow=True), Col("source", 6, right=True)]
        self.pane("Generated").show(
            [*columns, Col("target", 6, right=True), Col("tau", 6, right=True), Col("why", 14)], generated
        )
        profile = f"written by {h.llm or 'nobody'}\n\n{document['profile'] or 'no profile'}"
        self.query_one("#profile", Static).update(paragraph(profile))
        self.choose("Timeline")

    def runs(self) -> list[RunRow]:
        """Return the runs that can recommend at present."""
        data = self.histories.dataset.name
        return [row for row in self.shelf.runs if row.status == RunStatus.FINISHED and row.data == data]

    def choose(self, name: str, *, focus: bool = True) -> None:
        super().choose(name, focus=focus)
        if name == "Recommended" and self._recommended_run != self.run_number:
            self._recommend()

    def action_next_run(self) -> None:
        self.run_number += 1
        self.choose("Recommended")

    def _recommend(self) -> None:
        pane, runs = self.pane("Recommended"), self.runs()
        if not runs:
            pane.show([Col("", 70)], [("no finished run of this data: edt train",)])
            return
        self._recommended_run = self.run_number
        row = runs[self.run_number % len(runs)]
        pane.show([Col("", 70)], [(f"asking {row.name} ... (r: the next of {len(runs)} runs)",)])
        self.run_worker(self._run_recommend(row), exclusive=True, group="recommend")

    async def _run_recommend(self, row: RunRow) -> None:
        """Run `edt recommend` for the user with a run."""
        command = [sys.executable, "-m", "edt_cli", "recommend", "--run", row.name, "--user", self.user_name]
        command += ["--count", str(COUNT), "--device", "cpu", "--json", "--workspace", str(self.workspace.root)]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            raise
        if self.is_attached:
            self._show_recommended(row, out, err.decode("utf-8", "replace"))

    def _show_recommended(self, row: RunRow, out: bytes, err: str) -> None:
        pane = self.pane("Recommended")
        try:
            users: dict[str, Any] = json.loads(out)["users"]
        except (ValueError, KeyError):
            last = next((line for line in reversed(err.splitlines()) if line.strip()), "no answer")
            pane.show([Col("", 70)], [(last,)])
            return
        lines = [
            (str(item["rank"]), domain, _title(item["title"]), f"{item['score']:.3f}", item["item"])
            for domains in users.values()
            for domain, items in domains.items()
            for item in items
        ]
        heads = [Col("#", 3, right=True), Col("domain", 12), Col(f"title, by {row.name}", 36, grow=True)]
        pane.show([*heads, Col("score", 8, right=True), Col("item", 12)], lines)


def _title(title: str | None) -> str:
    return safe(title, 300) if title else "(no title)"


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
