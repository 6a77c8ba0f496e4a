"""Screen of one user: history with inserted items, generated items, profile, and recommendations of a run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from edt_cli.inference.listing import RunRow
from edt_cli.ui.compare import RANKS
from edt_cli.ui.dialogs import Question
from edt_cli.ui.histories import Histories
from edt_cli.ui.library import Shelf
from edt_cli.ui.processes import output_of
from edt_cli.ui.prompt_try import HINT, PromptTry, first_words
from edt_cli.ui.rows import Col
from edt_cli.ui.run_screen import Listing
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import paragraph, safe
from edt_cli.ui.tones import Tinted, domain_tone, lines, muted
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

PARTS = {"train": "", "inserted": "+", "valid": "valid", "test": "test", "later": "later"}
COUNT = 20
STRIP = 120
"""Most items in the line of letters."""
TIMELINE = [
    Col("#", 4, right=True),
    Col("", 5),
    Col("domain", 12),
    Col("title", 36, grow=True),
    Col("why it was kept", 60),
    Col("item", 12),
]
GENERATED = [
    Col("kept", 4),
    Col("domain", 12),
    Col("title", 26, grow=True),
    Col("source", 6, right=True),
    Col("target", 6, right=True),
    Col("tau", 6, right=True),
    Col("why", 14),
    Col("most like", 40),
]


class Profile(VerticalScroll, can_focus=True):
    """Profile of a user, as text."""

    def compose(self) -> ComposeResult:
        yield Static(id="profile", markup=False)


class Timeline(Listing):
    """History of a user, oldest first: a line of letters, one an item, above the list of items."""

    DEFAULT_CSS = """
    Timeline #strip { height: auto; max-height: 5; }
    """

    def compose(self) -> ComposeResult:
        yield Static(id="strip", classes="frame", markup=False)
        yield from super().compose()

    def on_mount(self) -> None:
        self.query_one("#strip").border_title = "oldest to newest"

    def show_strip(self, history: Sequence[Mapping[str, Any]], tones: Mapping[str, str]) -> None:
        """Show a letter for each item: that of its domain, + for an inserted one, the held-out ones apart."""
        letters = _letters(list(tones))
        row: list[str] = []
        for item in history[-STRIP:]:
            tone, letter = tones.get(item["domain"], ""), letters.get(item["domain"], "?")
            if item["part"] == "inserted":
                row.append(Tinted(f"+{letter}", tone, bold=True))
            elif item["part"] == "train":
                row.append(Tinted(letter, tone))
            else:
                row += [muted(f"  {item['part']} "), Tinted(letter, tone, bold=True)]
            row.append(" ")
        counts = [(name, sum(item["domain"] == name for item in history)) for name in tones]
        legend: list[str] = []
        for name, count in counts:
            legend += [Tinted(f"{letters[name]} {safe(name, 20)} {count}", tones[name]), "   "]
        inserted = sum(item["part"] == "inserted" for item in history)
        legend.append(Tinted(f"+ {inserted} of them inserted", "accent") if inserted else muted("nothing inserted"))
        more = [muted(f"the newest {STRIP} of {len(history)}")] if len(history) > STRIP else []
        self.query_one("#strip", Static).update(lines([row, legend, *([more] if more else [])]))


class UserScreen(EdtScreen):
    """Screen of one user.

    Recommendations come from `edt recommend` in a separate process: the app itself loads no model.

    Args:
        workspace: The workspace.
        shelf: Its runs.
        histories: The dataset of the user with the artefacts of a run.
        user: Number of the user.
        came_from: The run that one came from, whose recommendations are shown first.
    """

    names: ClassVar[list[str]] = ["Timeline", "Generated", "Profile", "Recommended"]
    BINDINGS = [
        Binding("r", "next_run", "Next run"),
        Binding("p", "try_prompt", "Try a prompt", show=False),
    ]

    def __init__(
        self, workspace: Workspace, shelf: Shelf, histories: Histories, user: int, came_from: RunRow | None = None
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = shelf
        self.histories = histories
        self.user = user
        self.came_from = came_from
        self.user_name = histories.dataset.user_ids[user]
        self.document: dict[str, Any] = {}
        self._recommended_run: int | None = None
        self.run_number = 0
        self.tried = ""

    def panes(self) -> list[Widget]:
        return [
            Timeline("no interaction"),
            Listing("nothing was generated for this user"),
            Profile(),
            Listing("choose a run with r"),
        ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "next_run":
            return len(self.runs()) > 1
        return super().check_action(action, parameters)

    def on_mount(self) -> None:
        from edt_cli.inference.inspection import describe_user

        h = self.histories
        document = describe_user(h.dataset, h.augmentation, h.profiles, self.user, h.llm, train_on=h.train_on)
        self.document = document
        counts = ", ".join(f"{name} {count}" for name, count in document["counts"].items())
        location = f"edt > users > {h.dataset.name} > {safe(self.user_name, 40)}"
        self.say(location, f"{counts}, r = {document['r']:.2f}")
        names = list(h.dataset.domains.names)
        tones = {name: domain_tone(place) for place, name in enumerate(names)}
        timeline = self.pane("Timeline")
        timeline.show(TIMELINE, [_timeline_line(n, item, tones) for n, item in enumerate(document["history"], 1)])
        timeline.show_strip(document["history"], tones)
        self.pane("Generated").show(GENERATED, [_generated_line(item, tones) for item in document["generated"]])
        profile = f"written by {h.llm or 'nobody'}\n\n{document['profile'] or 'no profile'}"
        self.query_one("#profile", Static).update(paragraph(profile))
        self.choose("Timeline")

    def runs(self) -> list[RunRow]:
        """Return the runs that can recommend at present, the one that one came from first."""
        data, first = self.histories.dataset.name, self.came_from or self.histories.row
        rows = [row for row in self.shelf.runs if row.status == RunStatus.FINISHED and row.data == data]
        return sorted(rows, key=lambda row: first is None or row.name != first.name)

    def choose(self, name: str, *, focus: bool = True) -> None:
        super().choose(name, focus=focus)
        if name == "Recommended" and self._recommended_run != self.run_number:
            self._recommend()

    def action_next_run(self) -> None:
        self.run_number += 1
        self.choose("Recommended")

    def action_try_prompt(self) -> None:
        """Ask for the options of `edt prompts try`, and show what it says of this user."""

        def typed(text: str | None) -> None:
            if text:
                self.tried = text
                trial = PromptTry(
                    text, user=self.user_name, data=self.histories.dataset.name, workspace=self.workspace.root
                )
                self.app.push_screen(trial)

        self.app.push_screen(Question(HINT, self.tried or first_words(self.histories.llm)), typed)

    def _recommend(self) -> None:
        pane, runs = self.pane("Recommended"), self.runs()
        if not runs:
            pane.show([Col("", 70)], [("no finished run of this data: edt train",)])
            return
        self._recommended_run = self.run_number
        row = runs[self.run_number % len(runs)]
        next_one = f" (r: the next of {len(runs)} runs)" if len(runs) > 1 else ""
        pane.show([Col("", 70, grow=True)], [(f"asking {row.name} ...{next_one}",)])
        self.run_worker(self._run_recommend(row), exclusive=True, group="recommend")

    async def _run_recommend(self, row: RunRow) -> None:
        """Run `edt recommend` for the user with a run, as the test asks where something is held out."""
        command = [sys.executable, "-m", "edt_cli", "recommend", "--run", row.name, "--user", self.user_name]
        command += ["--count", str(COUNT), "--device", "cpu", "--json", "--workspace", str(self.workspace.root)]
        held_out = next((item for item in self.document["history"] if item["part"] == "test"), None)
        if row.plan.get("settings", {}).get("training", {}).get("train_on") == "all":
            held_out = None
        command += ["--held-out"] if held_out else []
        _, out, err = await output_of(command)
        rank = await asyncio.to_thread(_rank, row.folder, self.user) if held_out else None
        if self.is_attached:
            self._show_recommended(row, out, err.decode("utf-8", "replace"), held_out, rank)

    def _show_recommended(
        self, row: RunRow, out: bytes, err: str, held_out: Mapping[str, Any] | None, rank: float | None
    ) -> None:
        pane = self.pane("Recommended")
        try:
            users: dict[str, Any] = json.loads(out)["users"]
        except (ValueError, KeyError):
            last = next((line for line in reversed(err.splitlines()) if line.strip()), "no answer")
            pane.show([Col("", 70)], [(last,)])
            return
        names = list(self.histories.dataset.domains.names)
        tones = {name: domain_tone(place) for place, name in enumerate(names)}
        rows: list[tuple[str, ...]] = []
        for domain, items in next(iter(users.values()), {}).items():
            hit = held_out is not None and any(item["item"] == held_out["item"] for item in items)
            for item in items:
                here = held_out is not None and item["item"] == held_out["item"]
                rows.append(
                    (
                        Tinted(f"{'> ' if here else ''}{item['rank']}", "good" if here else "", bold=here),
                        Tinted(domain, tones.get(domain, "")),
                        Tinted(_title(item["title"]), "good" if here else "", bold=here),
                        Tinted("held out" if here else "", "good"),
                        f"{item['score']:.3f}",
                        item["item"],
                    )
                )
            if held_out is not None and domain == held_out["domain"] and not hit:
                at = f"{rank:g}" if rank is not None else "?"
                told = (f"> {at}", domain, _title(held_out["title"]), "held out", "", str(held_out["item"]))
                rows.append(tuple(Tinted(text, "warn", bold=True) for text in told))
        title = f"by {safe(row.annotations.name or row.name, 60)}"
        heads = [Col("rank", 6, right=True), Col("domain", 10), Col(title, 30, grow=True), Col("", 8)]
        pane.show([*heads, Col("score", 8, right=True), Col("item", 12)], rows)


def _timeline_line(number: int, item: Mapping[str, Any], tones: Mapping[str, str]) -> tuple[str, ...]:
    return (
        str(number),
        Tinted(PARTS[item["part"]], "accent"),
        Tinted(item["domain"], tones.get(item["domain"], "")),
        _title(item["title"]),
        muted(_why(item.get("why"))),
        item["item"] or "made up",
    )


def _generated_line(item: Mapping[str, Any], tones: Mapping[str, str]) -> tuple[str, ...]:
    return (
        Tinted("yes", "good") if item["kept"] else muted("no"),
        Tinted(item["domain"], tones.get(item["domain"], "")),
        _title(item["title"]),
        _score(item["score_source"]),
        _score(item["score_target"]),
        _score(item["tau"]),
        str(item["reason"]),
        muted(_title(item["anchor"]) if item["anchor"] else ""),
    )


def _why(verdict: Mapping[str, Any] | None) -> str:
    """Return why an inserted item was kept: the item that it is most like, and its scores (eq. 5)."""
    if verdict is None:
        return ""
    reached = f"{verdict['domain']} {_score(verdict['score_target'])} (tau {_score(verdict['tau'])})"
    return f"own items {_score(verdict['score_source'])}, {reached}; after {_title(verdict['anchor'])}"


def _letters(domains: Sequence[str]) -> dict[str, str]:
    """Return a letter for each domain: its first one that no other has."""
    letters: dict[str, str] = {}
    for name in domains:
        free = (char for char in f"{name.lower()}abcdefghijklmnopqrstuvwxyz" if char.isalpha())
        letters[name] = next((char for char in free if char not in letters.values()), "?")
    return letters


def _rank(folder: Path, user: int) -> float | None:
    """Return the rank of a user's held-out item among all items of its domain; None without an evaluation."""
    import polars as pl

    try:
        frame = pl.read_parquet(folder / RANKS, glob=False, columns=["user", "rank_full"])
    except (OSError, pl.exceptions.PolarsError):
        return None
    ranks = frame.filter(pl.col("user") == user)["rank_full"].to_list()
    return float(ranks[0]) if ranks else None


def _title(title: str | None) -> str:
    return safe(title, 300) if title else "(no title)"


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
