"""Live section of a run's screen: status, steps, curves, machine, seeds and log."""

from __future__ import annotations

import time
from textwrap import wrap

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.followed import Followed
from edt_cli.ui.machine import Machine
from edt_cli.ui.machine import lines as machine_lines
from edt_cli.ui.money import money_lines
from edt_cli.ui.plot import number
from edt_cli.ui.state import PhaseState, RunState
from edt_cli.ui.steps import steps_of
from edt_cli.ui.text import bar, crop, duration, safe, short
from edt_cli.ui.tones import MEAN, Tinted, domain_tone, lines, muted, sign
from edt_cli.workspace.status import RunStatus

CHART_ROWS = 8
"""Least height of a chart of a loss, where several share the room."""
MOST_LINES = 5
"""Most lines of a command."""
OTHER_SERIES = 4
"""First colour that is not a domain's."""


class Losses(Vertical):
    """Charts of the terms of a loss, one each; terms that have no room come up one after the other."""

    DEFAULT_CSS = "Losses { height: 1fr; width: 1fr; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.first = 0
        self._terms: dict[str, Curve] = {}

    def compose(self) -> ComposeResult:
        yield Chart("loss")

    def show(self, terms: dict[str, Curve], domains: list[str], note: str) -> None:
        """Draw the terms that have room, from the first chosen one on."""
        self._terms = terms
        names = list(terms)
        room = max(1, min(len(names), self.size.height // CHART_ROWS))
        charts = list(self.query(Chart))
        for _ in range(room - len(charts)):
            self.mount(chart := Chart("loss"))
            charts.append(chart)
        rest = f"{room} of {len(names)} terms: m" if len(names) > room else note
        for place, chart in enumerate(charts):
            if chart.display != (place < room):
                chart.display = place < room
            if place < room and names:
                name = names[(self.first + place) % len(names)]
                title, colour = _term(name, domains, names.index(name))
                chart.show({title: terms[name]}, note=rest, title=f"loss: {title}", colours={title: colour})
            elif not names:
                chart.show({}, note=note, title="loss")

    def next_term(self) -> None:
        """Show the next term first."""
        self.first += 1


class Watch(Vertical):
    """Section that shows a `Followed` live."""

    DEFAULT_CSS = """
    Watch { height: 1fr; }
    Watch #where { height: auto; }
    Watch #charts { height: 1fr; min-height: 6; }
    Watch #money { height: 1fr; display: none; }
    Watch #machine { height: auto; max-height: 6; }
    Watch #seeds { height: auto; max-height: 8; }
    Watch #log { height: 7; }
    Watch #machine.empty, Watch #seeds.empty { display: none; }
    Watch #log.empty { display: none; }
    Watch.zoomed #log, Watch.zoomed #machine, Watch.zoomed #seeds { display: none; }
    Watch.asking #charts { display: none; }
    Watch.asking #money { display: block; }
    Watch.asking #log { height: 5; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown_phase: str | None = None
        self.machine: Machine | None = None
        self._shown: dict[str, tuple[object, ...]] = {}
        self._followed: Followed | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="where", markup=False)
        with Horizontal(id="charts"):
            yield Losses(id="loss")
            yield Chart("validation NDCG@10", id="ndcg")
        yield Static(id="money", classes="frame", markup=False)
        yield Static(id="machine", markup=False)
        yield Static(id="seeds", markup=False)
        log = Static(id="log", classes="frame", markup=False)
        log.border_title = "log, following"
        yield log

    def show(self, followed: Followed) -> None:
        """Draw the state of a run or job."""
        self._followed = followed
        phases = followed.run.state.phases if followed.run else {}
        phase = phases.get(self.shown_phase or "") or followed.phase
        width = max(20, self.size.width)
        asking = phase is None
        if self.has_class("asking") != asking:
            self.set_class(asking, "asking")
        self._put("#where", lines(self._where(followed, phase, width)))
        if phase is not None:
            best = phase.best_epoch if phase.best else None
            note = f"{phase.name}, by epoch"
            domains = phase.domains
            self.query_one(Losses).show(phase.losses, domains, note)
            colours = {name: MEAN if name == "mean" else domains.index(name) % 4 for name in phase.ndcg}
            self.query_one("#ndcg", Chart).show(phase.ndcg, note=note, mark=best, colours=colours)
        else:
            self._put("#money", lines(self._stage(followed, width - 4)))
        self._put("#seeds", lines(_seeds(followed)))
        self._log(followed, width)
        self._machine(followed, width)

    def on_resize(self) -> None:
        """Draw again at the new width; the first is known only after a first drawing."""
        if self._followed is not None:
            self.show(self._followed)

    def _put(self, selector: str, content: Content) -> None:
        """Update a widget, if its text or a colour has changed."""
        version = (content.plain, tuple(content.spans))
        if self._shown.get(selector) != version:
            self._shown[selector] = version
            shown = self.query_one(selector, Static)
            shown.update(content)
            shown.set_class(not content.plain, "empty")

    def _where(self, followed: Followed, phase: PhaseState | None, width: int) -> list[list[str]]:
        """Return the lines on status, steps and progress."""
        status: list[str] = [Tinted(sign(followed.status), sign(followed.status).tone, bold=True)]
        if followed.working.requested and not followed.ended:
            status.append(Tinted(f" ({followed.working.requested.replace('-', ' ')} asked)", "warn"))
        if followed.status == RunStatus.SILENT:
            status.append(f" for {duration(followed.silent_for)}: no process is there")
        elif followed.quiet:
            status.append(f", nothing heard for {duration(followed.silent_for)}")
        status.append(f"   {duration(followed.clock)}")
        used = sum(cell_len(part) for part in status)
        rows = [status]
        command = followed.command
        if command and followed.status != RunStatus.FINISHED:
            again = "" if followed.process_alive and not followed.ended else "the same command goes on: "
            if again:
                # After a stop the command is what to type next: it is shown whole.
                whole = wrap(f"{again}{safe(command, 1000)}", width, break_on_hyphens=False)
                rows += [[muted(line)] for line in whole[:MOST_LINES]]
            elif used + cell_len(command) + 4 > width:
                rows.append([muted(crop(safe(command, 1000), width).rstrip())])
            else:
                status.append(muted(f"   {safe(command, 1000)}"))
        if followed.message:
            rows.append([Tinted(crop(safe(followed.message, width * 2), width).rstrip(), "bad")])
        steps = [step.text() for step in steps_of(followed)]
        if steps:
            rows.append([part for step in steps for part in (step, "   ")][:-1])
        return [*rows, *self._of_phase(phase, followed)] if phase is not None else rows

    def _of_phase(self, phase: PhaseState, followed: Followed) -> list[list[str]]:
        """Return the lines on a phase of training."""
        done = phase.epoch / phase.epochs if phase.epochs else 0.0
        row: list[str] = [f"{phase.name} epoch {phase.epoch}/{phase.epochs}  ", Tinted(bar(done, 10), "accent")]
        at_work = not followed.ended and followed.process_alive
        if at_work and phase.batch:
            row.append(f"  batch {phase.batch}/{phase.steps}")
        left = phase.left()
        if at_work and phase is followed.phase and left is not None:
            # Early stopping may end it sooner, and nobody knows how long a later phase takes.
            row.append(f"  this phase: at most {duration(left)} left")
        best: list[str] = [f"best at {phase.best_epoch}: "]
        for name, value in phase.best.items():
            if name != "mean":
                best += [Tinted(f"{safe(name, 14)} {number(value)}", domain_tone(phase.domains.index(name))), "  "]
        more = [f" patience {phase.patience} left"] if phase.patience is not None else []
        speed = followed.run.state.speed if followed.run and at_work else None
        more += [f"   {short(speed)} samples/s"] if speed else []
        return [row, [*(best if phase.best else [*best, "-"]), *more]]

    def _stage(self, followed: Followed, width: int) -> list[list[str]]:
        """Return the progress of a stage before training; for an LLM stage also its calls and cost."""
        if followed.errors:
            return [[Tinted(crop(safe(line, width * 2), width).rstrip(), "bad")] for line in followed.errors]
        working = followed.working
        if not working.events and not followed.ended:
            return [["the process is starting: its first words take some seconds"]]
        if not working.stage_total:
            return []
        if working.stage == "starting":
            return [["reading the data"]]
        progress = [f"{safe(working.stage, 40)}  {working.stage_done:,} of {working.stage_total:,}"]
        share = Tinted(bar(working.stage_done / working.stage_total, max(10, min(60, width - 2))), "accent")
        if working.llm:
            return [progress, *money_lines(working.llm, width)]
        return [progress, [share]]

    def _log(self, followed: Followed, width: int) -> None:
        frame = self.query_one("#log", Static)
        room = frame.size.height or 5
        entries = [followed.log.line(n) for n in range(max(0, len(followed.log) - room), len(followed.log))]
        if followed.errors and self.query_one("#charts").display:
            # What a process said last tells more than its log.
            shown = followed.errors[-room:]
            self._put(
                "#log", lines([[Tinted(crop(safe(line, width * 2), width - 4).rstrip(), "bad")] for line in shown])
            )
            title = "what the process said last"
        else:
            clock = [muted(time.strftime("%H:%M:%S ", time.localtime(moment))) for moment, _ in entries]
            rows = [[at, crop(line, width - 13).rstrip()] for at, (_, line) in zip(clock, entries, strict=True)]
            self._put("#log", lines(rows))
            title = "log" if followed.ended else "log, following"
        if frame.border_title != title:
            frame.border_title = title

    def _machine(self, followed: Followed, width: int) -> None:
        rows: list[str] = []
        if followed.pid is not None:
            rows = machine_lines(self.machine, width) if self.machine is not None else []
        elif followed.process_alive and followed.host and not followed.ended:
            rows = [f"at work on {safe(followed.host, 40)}"]
        self._put("#machine", lines([[crop(row, width).rstrip()] for row in rows]))


def _term(name: str, domains: list[str], place: int) -> tuple[str, int]:
    """Return the name of a term of a loss and the number of its colour; `L_1` is that of the second domain."""
    prefix, _, domain = name.partition("_")
    if prefix == "L" and domain.isdigit() and int(domain) < len(domains):
        return domains[int(domain)], int(domain) % 4
    return name, OTHER_SERIES + place % 3


def _seeds(followed: Followed) -> list[list[str]]:
    """Return a line for each run of a job that has several."""
    job: RunState | None = followed.job.state if followed.job else None
    if job is None:
        return []
    seeds = job.job.get("seeds")
    planned = seeds if isinstance(seeds, list) else []
    count = max(len(planned), len(job.runs))
    if count < 2:
        return []
    rows: list[list[str]] = []
    for index in range(count):
        seed = planned[index] if index < len(planned) else ""
        summary = followed.summaries.get(job.runs[index]) if index < len(job.runs) else None
        if summary is None:
            rows.append([muted(f"  . seed {seed}  to come")])
            continue
        row: list[str] = ["  ", sign(summary.status), f"  seed {seed}  N@10 "]
        names = [name for name in summary.best if name != "mean"]
        for place, name in enumerate(names):
            row += [Tinted(f"{safe(name, 14)} {number(summary.best[name])}", domain_tone(place)), "  "]
        rows.append([*row, *([] if names else ["-  "]), *([f"epoch {summary.epoch}"] if summary.epoch else [])])
    return rows
