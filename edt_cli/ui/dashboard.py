"""First section of the workspace: what is at work, and the newest results of a dataset as a leaderboard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical

from edt_cli.ui.act_keys import act_bindings, possible
from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.followed import Followed
from edt_cli.ui.leaderboard import Leaderboard, Standing, datasets_with_runs, leaderboard
from edt_cli.ui.library import Shelf, data_label, live_jobs
from edt_cli.ui.messages import Act, OpenRun
from edt_cli.ui.money import budget, count
from edt_cli.ui.pane import Pane
from edt_cli.ui.plot import number
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.steps import steps_of
from edt_cli.ui.text import ago, bar, duration, safe, short
from edt_cli.ui.tones import RUNS, Tinted, domain_tone, muted, sign
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

MOST_JOBS = 12
NO_WORK = "nothing is at work: edt train --data demo"
FRAME = 7
"""Width of a frame with its padding, the sign of the cursor and a scrollbar."""
WIDE, BARS = 110, {0: 4, 110: 10, 180: 28}
"""Width from which on there is room for more columns, and the width of a bar from some widths on."""
BOARD_ROWS = 5
"""Lines of the results beside the systems: frame, heads, and one that is empty."""


@dataclass(frozen=True)
class Work:
    """A job or run at work, as a line shows it."""

    folder: Path
    cells: tuple[str, ...]
    name: str = field(compare=False, default="")
    curve: Curve = field(compare=False, default_factory=Curve)


class Dashboard(Pane):
    """First section: what is at work, and the systems on a dataset by their results; `D` is the next dataset."""

    BINDINGS = [
        Binding("D", "next_data", "Next dataset", key_display="D"),
        *act_bindings("new", "stop", "repeat", "copy"),
    ]
    DEFAULT_CSS = """
    Dashboard { layout: vertical; }
    Dashboard #work-box { height: 8; }
    Dashboard #board-box { height: 1fr; }
    Dashboard #curves { height: 1fr; display: none; }
    """

    def __init__(self, workspace: Workspace, shelf: Shelf) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = shelf
        self.data = ""
        self.board = Leaderboard("", [], [])
        self._followed: dict[Path, Followed] = {}
        self._work: list[Work] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="work-box", classes="frame") as box:
            box.border_title = "at work"
            yield Rows(id="work", empty="reading ...")
        yield Chart("validation NDCG@10 of what is at work, mean of domains", id="curves")
        with Vertical(id="board-box", classes="frame") as box:
            box.border_title = "results"
            yield Rows(id="board", empty="reading ...")

    @property
    def at_work(self) -> int:
        """Number of jobs and runs at work."""
        return len(self._work)

    async def reread(self) -> None:
        """Read what is at work in another thread, then draw it."""
        work = await asyncio.to_thread(self._read_work)
        if not self.is_attached:
            return
        rows = self.query_one("#work", Rows)
        if rows.empty != NO_WORK:
            rows.empty = NO_WORK
            rows.refresh()
        if work != self._work:
            self._work = work
            box = self.query_one("#work-box")
            self._show_work()
            box.styles.height = min(max(5, len(work) + 3), max(5, self.size.height // 2))
            box.border_title = f"at work: {len(work)}" if work else "at work"
            curves = {f"{n + 1} {entry.name}": entry.curve for n, entry in enumerate(work) if len(entry.curve)}
            colours = {name: RUNS[place % len(RUNS)] for place, name in enumerate(curves)}
            self.query_one("#curves", Chart).show(curves, note="by epoch, over all phases", colours=colours)
            self.query_one("#curves").set_class(bool(curves), "some")
            self._share_room()

    def _share_room(self) -> None:
        """Give curves the room that the results do not need."""
        curves = self.query_one("#curves").has_class("some") and self.screen.has_class("-tall")
        most = len(self.board.standings) + BOARD_ROWS if curves else None
        self.query_one("#board-box").styles.max_height = most

    def _show_work(self) -> None:
        longest = max((cell_len(entry.cells[0]) for entry in self._work), default=0)
        heads = work_heads(self.size.width, longest)
        self.query_one("#work", Rows).load(heads, len(self._work), self._work_cells)

    def _work_cells(self, row: int) -> Sequence[str]:
        cells = self._work[row].cells
        return [cells[number] for number in work_columns(self.size.width)]

    def _read_work(self) -> list[Work]:
        """Return the jobs at work, and the runs that are made without one, newest first."""
        folders = live_jobs(self.workspace)[:MOST_JOBS]
        self._followed = {
            folder: self._followed.get(folder) or Followed(self.workspace, folder) for folder in folders
        }
        for followed in self._followed.values():
            followed.catch_up()
        parts = [part for followed in self._followed.values() for part in followed.parts]
        of_jobs = {name for part in parts for name in part.state.runs}
        others = [row.folder for row in self.shelf.runs if row.status.live and row.name not in of_jobs][:MOST_JOBS]
        for folder in others:
            self._followed[folder] = followed = Followed(self.workspace, folder)
            followed.catch_up()
        return [
            Work(folder, work_cells(followed), followed.run_row.title, followed.state.whole())
            for folder, followed in self._followed.items()
        ]

    def show(self) -> None:
        """Draw the leaderboard from the runs on the shelf."""
        names = datasets_with_runs(self.shelf.runs)
        self.data = self.data if self.data in names else (names[0] if names else "")
        self.board = leaderboard(self.shelf.runs, self.data)
        rows, box = self.query_one("#board", Rows), self.query_one("#board-box")
        box.border_title = f"results on {data_label(self.workspace, self.data)}" if self.data else "results"
        box.border_subtitle = f"{names.index(self.data) + 1} of {len(names)} datasets: D" if len(names) > 1 else ""
        rows.empty = "no result yet: edt train --data demo"
        width = self.size.width
        count = len(self.board.standings)
        rows.load(board_heads(self.board, width), count, lambda row: board_cells(self.board, row, width))
        self._share_room()

    def on_resize(self) -> None:
        if self.shelf.read:
            self.show()
            self._show_work()

    def _chosen(self) -> tuple[Path, RunStatus] | None:
        """Return the folder and the status of what the cursor is on: what is at work, or a system's newest run."""
        work, board = self.query_one("#work", Rows), self.query_one("#board", Rows)
        if work.has_focus and work.cursor < len(self._work):
            return self._work[work.cursor].folder, RunStatus.WORKING
        if board.has_focus and board.cursor < len(self.board.standings):
            row = self.board.standings[board.cursor].rows[0]
            return row.folder, row.status
        return None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "act":
            return True
        chosen = self._chosen()
        if parameters[0] == "repeat" and chosen is not None and chosen[1] != RunStatus.FINISHED:
            return False
        return possible(str(parameters[0]), [] if chosen is None else [chosen[1]])

    def action_act(self, name: str) -> None:
        chosen = self._chosen()
        self.post_message(Act(name, [] if chosen is None else [chosen[0]]))

    def action_next_data(self) -> None:
        names = datasets_with_runs(self.shelf.runs)
        if names:
            self.data = names[(names.index(self.data) + 1) % len(names)] if self.data in names else names[0]
            self.show()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        if event.rows.id == "work":
            self.post_message(OpenRun(self._work[event.row].folder))
        else:
            self.post_message(OpenRun(self.board.standings[event.row].rows[0].folder))


WORK_COLUMNS = (
    (Col("work", 34), 0),
    (Col("", 18), 0),
    (Col("done", 12, right=True), 0),
    (Col("", 10), WIDE),
    (Col("rate", 7, right=True), WIDE),
    (Col("USD", 14, right=True), 0),
    (Col("left", 8, right=True), 0),
    (Col("time", 8, right=True), 140),
)
"""Columns of what is at work, and the width from which on each is shown."""


def work_columns(width: int) -> list[int]:
    """Return the numbers of the columns that a box of a width has room for."""
    return [number for number, (_, least) in enumerate(WORK_COLUMNS) if width >= least]


def work_heads(width: int, longest: int = 0) -> list[Col]:
    """Return the columns of what is at work in a box of a width, where the longest name has a length."""
    first, *others = (WORK_COLUMNS[number][0] for number in work_columns(width))
    if width < WIDE:
        return [replace(first, width=18, grow=True), *others]
    return [_whole(first, longest, others, width), *others]


def _whole(first: Col, longest: int, others: Sequence[Col], width: int) -> Col:
    """Return a first column that takes what the others leave of a box, as far as its longest text needs it."""
    room = width - FRAME - sum(column.width + 1 for column in others)
    return replace(first, width=max(first.width, min(longest, room)))


def work_cells(followed: Followed) -> tuple[str, ...]:
    """Return the cells of a job or run at work, in the order of WORK_COLUMNS."""
    job = followed.job.state.job if followed.job else {}
    plan = followed.run_row.plan
    command = str(job.get("command") or ("train" if plan else "") or followed.name)
    seed = f" seed {followed.run_row.seed}" if followed.run_row.seed is not None else ""
    system = followed.run_row.title or str(job.get("model") or "")
    words = " ".join(filter(None, (command, str(job.get("data") or plan.get("data") or ""), system))) + seed
    step = next((step for step in steps_of(followed) if step.state == "running"), None)
    working, phase = followed.working, followed.phase
    done, share, left, rate = "", None, None, ""
    if phase is not None and phase.epochs:
        done, share, left = (
            f"epoch {phase.epoch}/{phase.epochs}",
            (phase.epoch + phase.within) / phase.epochs,
            phase.left(),
        )
        speed = working.speed
        rate = f"{short(speed)}/s" if speed else ""
    elif working.stage_total and working.stage != "starting":
        done = f"{working.stage_done:,}/{working.stage_total:,}"
        share = working.stage_done / working.stage_total
        left = working.llm.get("seconds_left")
        rate = f"{count(working.llm, 'calls_per_s'):.1f}/s" if count(working.llm, "calls_per_s") else ""
    # The time left is that of a phase: more phases may follow.
    planned = followed.run.state.planned if followed.run else []
    more = "+" if phase is not None and phase.name in planned[:-1] else ""
    name = step.name if step else working.stage or str(followed.status)
    # A process that is at a step has begun.
    state = sign(RunStatus.WORKING if step and followed.status == RunStatus.STARTING else followed.status)
    return (
        safe(words, 80),
        Tinted(f"{state[0]} {safe(name, 30)}", state.tone),
        done,
        Tinted(bar(share, 10), "accent") if share is not None else "",
        rate,
        budget(working.llm),
        duration(float(left)) + more if isinstance(left, int | float) and left > 0 else "",
        muted(duration(followed.clock)),
    )


def _bar_width(width: int) -> int:
    return max(cells for least, cells in BARS.items() if width >= least)


def board_heads(board: Leaderboard, width: int) -> list[Col]:
    """Return the columns of a leaderboard in a box of a width."""
    heads: list[Col] = []
    for place, domain in enumerate(board.domains):
        tone = domain_tone(place)
        heads += [
            Col("NDCG@10", 7, right=True, group=safe(domain, 16), tone=tone),
            Col("", _bar_width(width), group=safe(domain, 16), tone=tone),
            Col("HR@10", 6, right=True, group=safe(domain, 16), tone=tone),
        ]
    heads += [Col("lead", 7, right=True), Col("runs", 4, right=True), Col("when", 5, right=True)]
    longest = max((cell_len(standing.title) for standing in board.standings), default=0)
    system = Col("system", 30 if width >= WIDE else 20)
    return [_whole(system, longest, heads, width) if width >= WIDE else system, *heads]


def board_cells(board: Leaderboard, place: int, width: int) -> Sequence[str]:
    """Return the cells of a system: * marks the best of a figure; its lead is over the best other system."""
    standing: Standing = board.standings[place]
    cells: list[str] = [Tinted(standing.title, "accent", bold=True) if place == 0 else standing.title]
    for index, domain in enumerate(board.domains):
        tone = domain_tone(index)
        for metric in ("ndcg", "hr"):
            name = f"{metric}_{domain}"
            value, best = standing.figures.get(name), board.best(name)
            best_here = value is not None and value >= best
            text = "" if value is None else f"{number(value)}{'*' if best_here else ' '}"
            cells.append(Tinted(text, tone, bold=best_here))
            if metric == "ndcg":
                cells.append(Tinted(bar((value or 0.0) / best if best else 0.0, _bar_width(width)), tone))
    lead = standing.lead
    tone = "" if lead is None else "good" if lead > 0 else "bad"
    cells.append(Tinted("" if lead is None else f"{lead:+.1%}", tone))
    return [*cells, str(len(standing.rows)), muted(ago(time.time() - standing.when))]
