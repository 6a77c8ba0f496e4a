"""Live section of a run's screen: status, curves, machine, seeds and log."""

from __future__ import annotations

import time

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from edt_cli.ui.chart import Chart, number
from edt_cli.ui.followed import Followed
from edt_cli.ui.library import sign
from edt_cli.ui.machine import Machine, lines
from edt_cli.ui.state import PhaseState, RunState
from edt_cli.ui.text import bar, crop, duration, paragraph, safe, short
from edt_cli.workspace.status import RunStatus


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
    Watch.zoomed #log, Watch.zoomed #machine, Watch.zoomed #seeds { display: none; }
    Watch.asking #charts { display: none; }
    Watch.asking #money { display: block; }
    Watch.asking #log { height: 5; }
    Watch.one-chart #loss { display: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown_phase: str | None = None
        self.machine: Machine | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="where", markup=False)
        with Horizontal(id="charts"):
            yield Chart("loss", id="loss")
            yield Chart("validation NDCG@10", id="ndcg")
        yield Static(id="money", classes="frame", markup=False)
        yield Static(id="machine", markup=False)
        yield Static(id="seeds", markup=False)
        yield Static(id="log", classes="frame", markup=False)

    def show(self, followed: Followed) -> None:
        """Draw the state of a run or job."""
        phases = followed.run.state.phases if followed.run else {}
        phase = phases.get(self.shown_phase or "") or followed.phase
        width = max(20, self.size.width)
        working = followed.working
        asking = phase is None
        self.set_class(asking, "asking")
        where = [crop(line, width) for line in self._where(followed, phase, width)]
        self._put("#where", Text("\n".join(where), no_wrap=True, overflow="crop"))
        if phase is not None:
            best = phase.best_epoch if phase.best else None
            note = f"{phase.name}, by epoch"
            self.query_one("#loss", Chart).show(phase.losses, note=note)
            self.query_one("#ndcg", Chart).show(phase.ndcg, note=note, mark=best)
        if asking:
            self._put("#money", Text("\n".join(self._stage(working, width - 4))))
        self._put("#seeds", Text("\n".join(self._seeds(followed, width)), no_wrap=True, overflow="crop"))
        self._log(followed, width)
        self._machine(followed, width)

    def _put(self, selector: str, text: Text) -> None:
        """Update a widget, if its text has changed."""
        shown = self.query_one(selector, Static)
        if getattr(shown, "last_text", None) != text.plain:
            shown.last_text = text.plain  # type: ignore[attr-defined]
            shown.update(text)
            shown.set_class(not text.plain, "empty")

    def _where(self, followed: Followed, phase: PhaseState | None, width: int) -> list[str]:
        """Return the lines on status and progress."""
        state, working = followed.state, followed.working
        status = sign(followed.status)
        if working.requested and not followed.ended:
            status += f" ({working.requested.replace('-', ' ')} asked)"
        if followed.status == RunStatus.SILENT:
            status += f" for {duration(followed.silent_for)}: no process is there; the same command goes on"
        elif followed.quiet:
            status += f", nothing heard for {duration(followed.silent_for)}"
        job = followed.job.state if followed.job else None
        began = (job.began if job else None) or state.began
        until = time.time() if not followed.ended and followed.process_alive else state.time
        clock = duration((until or 0) - began) if began and until else "-"
        head = [f"{status}   {clock}"]
        if followed.message:
            head.append(safe(followed.message, width))
        if phase is not None:
            return [*head, *self._of_phase(phase, followed)]
        return head

    def _of_phase(self, phase: PhaseState, followed: Followed) -> list[str]:
        """Return the lines on a phase of training."""
        epoch = f"{phase.name} epoch {phase.epoch}/{phase.epochs}"
        done = phase.epoch / phase.epochs if phase.epochs else 0.0
        parts = [epoch, bar(done, 10)]
        if not followed.ended and phase.steps:
            parts.append(f"batch {phase.batch}/{phase.steps}")
        left = phase.left()
        if not followed.ended and phase is followed.phase and left is not None:
            parts.append(f"at most {duration(left)} left")
        best = "  ".join(
            f"{safe(name, 14)} {number(value)}" for name, value in phase.best.items() if name != "mean"
        )
        more = [f"best at {phase.best_epoch}: {best or '-'}"]
        more += [f"patience {phase.patience} left"] if phase.patience is not None else []
        speed = followed.run.state.speed if followed.run and not followed.ended else None
        more += [f"{short(speed)} samples/s"] if speed else []
        return ["  ".join(parts), "   ".join(more)]

    def _stage(self, working: RunState, width: int) -> list[str]:
        """Return the progress of a stage before training; for an LLM stage also its calls and cost."""
        if not working.stage_total:
            return []
        progress = f"{safe(working.stage, 40)}  {working.stage_done:,} of {working.stage_total:,}"
        if working.llm:
            return [progress, *self._money(working.llm, width)]
        return [progress, bar(working.stage_done / working.stage_total, max(10, min(60, width - 2)))]

    def _money(self, llm: dict[str, object], width: int) -> list[str]:
        """Return the calls of an LLM stage as letters in one bar, its cost, and the last reply."""

        def count(name: str) -> float:
            value = llm.get(name)
            return float(value) if isinstance(value, int | float) else 0.0

        failures = llm.get("failed")
        causes = {safe(k, 40): v for k, v in failures.items()} if isinstance(failures, dict) else {}
        lost = sum(v for v in causes.values() if isinstance(v, int))
        hits, new = count("hits"), count("new")
        done = hits + new + lost
        total = done + count("calls_left")
        room = max(10, min(60, width - 2))
        scale = room / max(1.0, total or done)
        letters = [("h", hits), ("n", new), ("r", count("retries")), ("f", lost)]
        bar_letters = "".join(letter * round(value * scale) for letter, value in letters if letter != "r")[:room]
        rows = [
            f"calls {done:,.0f} of about {total:,.0f}{_pace(count('calls_per_s'), llm.get('seconds_left'))}",
            f"[{bar_letters.ljust(room, '.')}]",
            f"h hits {hits:,.0f}   n new {new:,.0f}   retries {count('retries'):,.0f}   f failures {lost:,.0f}",
        ]
        if count("held_s"):
            rows.append(f"held for {count('held_s'):.0f} s: a rate limit, or a provider that does not answer")
        if causes:
            rows.append("failures by cause: " + ", ".join(f"{cause} {n}" for cause, n in causes.items()))
        if "prompt_tokens" in llm:
            rows.append(f"tokens {count('prompt_tokens'):,.0f} in, {count('completion_tokens'):,.0f} out")
        if "spent_usd" in llm:
            spent, limit = count("spent_usd"), count("limit_usd")
            parts = [f"spent ${spent:.4f}"]
            parts += [f"projected ${spent + spent / new * count('calls_left'):.4f}"] if new else []
            parts += [f"limit ${limit:.4f} {bar(spent / limit, 10)}"] if limit else ["no limit"]
            rows.append("   ".join(parts))
        last = llm.get("last")
        if isinstance(last, dict) and last.get("text"):
            rows += [f"last reply ({safe(last.get('user', ''), 40)}):", paragraph(last["text"], 4000)]
        return rows

    def _seeds(self, followed: Followed, width: int) -> list[str]:
        """Return a line for each run of a job that has several."""
        job = followed.job.state if followed.job else None
        if job is None:
            return []
        planned = job.job.get("seeds")
        count = max(len(planned) if isinstance(planned, list) else 0, len(job.runs))
        if count < 2:
            return []
        rows = []
        for index in range(count):
            seed = planned[index] if isinstance(planned, list) and index < len(planned) else ""
            summary = followed.summaries.get(job.runs[index]) if index < len(job.runs) else None
            if summary is None:
                rows.append(crop(f"  . seed {seed}  to come", width))
                continue
            best = "  ".join(f"{safe(k, 14)} {number(v)}" for k, v in summary.best.items() if k != "mean")
            epoch = f"  epoch {summary.epoch}" if summary.epoch else ""
            rows.append(crop(f"  {sign(summary.status)}  seed {seed}  N@10 {best or '-'}{epoch}", width))
        return rows

    def _log(self, followed: Followed, width: int) -> None:
        frame = self.query_one("#log", Static)
        room = frame.size.height or 5
        entries = followed.log[-room:]
        frame.border_title = "log, following"
        clock = [time.strftime("%H:%M:%S", time.localtime(moment)) for moment, _ in entries]
        rows = [crop(f"{at} {line}", width - 4) for at, (_, line) in zip(clock, entries, strict=True)]
        self._put("#log", Text("\n".join(rows), no_wrap=True, overflow="crop"))

    def _machine(self, followed: Followed, width: int) -> None:
        machine_lines: list[str] = []
        if followed.pid is not None:
            machine_lines = lines(self.machine, width) if self.machine is not None else []
        elif followed.process_alive and followed.host and not followed.ended:
            machine_lines = [f"at work on {safe(followed.host, 40)}"]
        self._put("#machine", Text("\n".join(crop(line, width) for line in machine_lines)))


def _pace(per_second: float, left: object) -> str:
    text = f", {per_second:.1f} a second" if per_second else ""
    return text + (f", {duration(float(left))} left" if isinstance(left, int | float) else "")
