"""What a watched folder amounts to: jobs before their first event, old heartbeats, clocks, steps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made import NOW, beat, epochs, events_of, llm_job, run
from test_follow import epoch, fold

from edt_cli.config import UserError
from edt_cli.inference.listing import read_run
from edt_cli.ui.ablation import ablation_lines, variants_of
from edt_cli.ui.dashboard import WORK_COLUMNS, work_cells
from edt_cli.ui.followed import Followed
from edt_cli.ui.leaderboard import leaderboard
from edt_cli.ui.library import RunReader, newest_at_work, why_failed
from edt_cli.ui.preferences import prefer, preferred
from edt_cli.ui.state import RunState
from edt_cli.ui.steps import steps_of
from edt_cli.workspace.annotations import Annotations, annotate
from edt_cli.workspace.jobs import ERRORS, command_of, new_folder
from edt_cli.workspace.layout import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


def followed(workspace: Workspace, folder: Path, launched=None) -> Followed:
    watched = Followed(workspace, folder, launched)
    while watched.take(watched.read()):
        pass
    return watched


class Process:
    def __init__(self, ended: int | None) -> None:
        self.ended = ended

    def code(self) -> int | None:
        return self.ended


def test_a_job_without_events_is_starting_with_its_command(place):
    job = new_folder(place, "train", "demo", ["train", "--data", "my data", "--set", "llm.api_key=sk-123456"])
    assert command_of(job) == "edt train --data 'my data' --set 'llm.api_key=***'"
    watched = followed(place, job)
    assert (watched.status, watched.command) == ("starting", command_of(job))
    assert watched.silent_for < 60 and watched.clock is not None and watched.clock < 60
    assert newest_at_work(place) == job
    # After a while without a word nobody is there, unless this process knows better.
    os.utime(job, (NOW, NOW))
    assert followed(place, job).status == "silent"
    assert followed(place, job, Process(None)).status == "starting"
    with pytest.raises(UserError, match="nothing is at work"):
        newest_at_work(place)


def test_a_run_is_at_work_from_the_first_heartbeat_of_its_process_on(place):
    folder = run(place, "one", {"epochs": 2, "of": 9})
    assert read_run(folder).status == "silent"
    beat(folder, pid=os.getpid(), time=time.time(), stage="starting", done=0, total=1)
    assert read_run(folder).status == "training"
    events_of(folder, [{"event": "run", "run": "one"}])
    assert read_run(folder).status == "working" and read_run(folder).status.live
    assert newest_at_work(place) == folder


def test_an_older_heartbeat_changes_nothing_that_events_have_told():
    state = RunState()
    fold(state, {"event": "calls", "time": 1010.0, "stage": "augment", "done": 2905, "total": 2905, "calls": 2905})
    state.beat({"time": 1007.0, "stage": "augment", "done": 2693, "total": 2905, "calls": 2693})
    assert (state.stage_done, state.llm["calls"]) == (2905, 2905)
    state.beat({"time": 1012.0, "stage": "profile", "done": 1, "total": 9})
    assert (state.stage, state.stage_done) == ("profile", 1)
    fold(state, {"event": "ended", "outcome": "finished", "time": 1013.0})
    state.beat({"time": 1014.0, "stage": "profile", "done": 2, "total": 9})
    assert state.stage_done == 1
    fold(state, {"event": "phase", "phase": "pre-training", "time": 1020.0})
    state.beat({"time": 1021.0, "stage": "x", "done": 7, "total": 8, "phase": "pre-training", "step": 7})
    fold(state, {**epoch(1), "time": 1022.0})
    state.beat({"time": 1021.0, "stage": "x", "done": 7, "total": 8, "phase": "pre-training", "step": 7})
    assert state.phase is not None and state.phase.batch == 0


def test_one_clock_for_a_run_without_pauses_and_gaps(place):
    folder = run(place, "one", {"epochs": 2, "of": 9, "end": "stopped"})
    lines = (folder / "events.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])["time"]
    more = [{"event": "run", "run": "one"}, {"event": "resumed", "phase": "pre-training", "epoch": 2}]
    times = (last + 10_000, last + 10_001, last + 10_005)
    records = [*more, {"event": "finished", "run": "one"}]
    text = "".join(json.dumps({**record, "time": t}) + "\n" for record, t in zip(records, times, strict=True))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n" + text)
    job = place.jobs / "j"
    events_of(job, [{"event": "job", "time": 5.0}, {"event": "run", "run": "one"}, {"event": "ended"}])
    clocks = {followed(place, where).clock for where in (folder, job)}
    assert clocks == {last - json.loads(lines[0])["time"] + 4.0}


def test_the_steps_of_a_run_and_of_a_job(place):
    def told(folder: Path) -> list[str]:
        return [str(step.text()) for step in steps_of(followed(place, folder))]

    live = run(place, "live", {"epochs": 9, "of": 50})
    beat(live, pid=os.getpid(), time=4e9, phase="pre-training", step=3, done=4, total=8)
    tail = [". fine-tuning", ". rank"]
    assert told(live) == ["v augment", "v profile", "> pre-training 19%", *tail]
    job = llm_job(place)
    assert told(job) == ["v embed", "> augment 25%"]
    cells = work_cells(followed(place, job))
    heads = [column.title for column, _ in WORK_COLUMNS]
    assert cells[heads.index("USD")] == "$0.50 of $2.00" and cells[heads.index("left")] == "01:00"
    assert (cells[0], cells[1], cells[2]) == ("augment pair", "> augment", "50/200")
    plain = run(place, "plain", {"epochs": 2, "end": "finished"}, model="sasrec")
    job = place.jobs / "k"
    events_of(job, [{"event": "job", "command": "train"}, {"event": "run", "run": "plain"}])
    beat(job, pid=os.getpid(), time=4e9)
    assert told(job) == ["v pre-training", "> rank"]
    assert told(plain) == ["v pre-training", "> rank"]


def test_a_failed_run_says_why_and_what_its_process_said_last(place):
    folder = run(place, "one", {"epochs": 1, "of": 9})
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "failed", "error": "KeyError: 'x'", "time": NOW}) + "\n")
    job = place.jobs / "20260101-train"
    events_of(job, [{"event": "job"}, {"event": "run", "run": "one"}, {"event": "ended", "outcome": "failed"}])
    (job / ERRORS).write_text("Traceback (most recent call last):\n  line 1\n\nKeyError: 'x'\n")
    assert why_failed(folder) == "KeyError: 'x'"
    watched = followed(place, folder)
    watched.read()
    assert watched.status == "failed" and watched.message == "KeyError: 'x'"
    assert watched.errors == ["Traceback (most recent call last):", "  line 1", "KeyError: 'x'"]


def test_a_method_without_its_parts_stands_beside_it(tmp_path):
    from made import dataset_of, histories

    from edt_cli.inference.listing import read_runs

    workspace, made = Workspace(tmp_path / "ws"), dataset_of(histories())
    for name, skill, out in (("whole", 3.0, None), ("less", 6.0, "augmentation"), ("other", 4.0, None)):
        folder = run(workspace, name, {"epochs": 1}, finished=True, skill=skill, made=made)
        plan = json.loads((folder / "run.json").read_text())
        if out:
            plan["settings"][out]["enabled"] = False
        if name == "other":
            plan["settings"]["options"]["alpha"] = 0.5
        (folder / "run.json").write_text(json.dumps(plan))
    document = json.loads((workspace.runs / "whole" / "results" / "test-full.json").read_text())
    first_phase = {**document, "file": "test-full-without-dft", "first_phase": True}
    (workspace.runs / "whole" / "results" / "test-full-without-dft.json").write_text(json.dumps(first_phase))
    rows = read_runs(workspace)
    variants = variants_of(next(row for row in rows if row.name == "less"), rows)
    assert [(v.name, v.runs, v.here) for v in variants] == [
        ("", 1, False),
        ("w/o DFT", 1, False),
        ("w/o Aug.", 1, True),
    ]
    lines = ["".join(line) for line in ablation_lines(variants)]
    assert "the whole method" in lines[0] and "+0.0%" in lines[1]
    assert lines[2].startswith("> ") and f"{variants[2].level / variants[0].level - 1:+.1%}" in lines[2]
    assert variants_of(next(row for row in rows if row.name == "other"), rows) == []


def test_finished_runs_are_read_again_after_a_change_only(tmp_path, monkeypatch):
    from made import dataset_of, histories

    workspace, made = Workspace(tmp_path / "ws"), dataset_of(histories())
    done = run(workspace, "done", {"epochs": 1}, finished=True, made=made)
    run(workspace, "begun", {"epochs": 1, "of": 9})
    reader, read = RunReader(workspace), []
    monkeypatch.setattr("edt_cli.ui.library.read_run", lambda folder: read.append(folder.name) or read_run(folder))
    assert [row.name for row in reader.read()] == [row.name for row in reader.read()]
    assert sorted(read) == ["begun", "begun", "done"]
    annotate(done, Annotations(note="new"))
    assert {row.name: row.annotations.note for row in reader.read()} == {"done": "new", "begun": ""}
    (done / "results" / "test-full.json").unlink()
    assert next(row for row in reader.read() if row.name == "done").figures == {}
    shutil.rmtree(done)
    assert [row.name for row in reader.read()] == ["begun"] and not reader._known


def test_the_leaderboard_has_means_over_seeds_and_leads(workspace):
    from edt_cli.inference.listing import read_runs

    board = leaderboard(read_runs(workspace), "pair")
    first, second = board.standings
    assert [len(standing.rows) for standing in board.standings] == [2, 1] and board.domains == ["food", "kitchen"]
    values = [row.figures["ndcg_food"] for row in first.rows]
    assert first.figures["ndcg_food"] == pytest.approx(sum(values) / 2) == board.best("ndcg_food")
    assert first.lead == pytest.approx(first.level / second.level - 1)
    assert second.lead == pytest.approx(second.level / first.level - 1)
    assert leaderboard([], "pair").standings == []


def test_a_phase_that_is_planned_is_told_before_it_begins(place):
    state = RunState()
    fold(state, {"event": "planned", "phases": ["pre-training", "fine-tuning"]})
    for record in epochs("pre-training", 3, 9):
        fold(state, record)
    for record in epochs("fine-tuning", 2, 9):
        fold(state, record)
    whole = list(state.whole())
    assert state.planned == ["pre-training", "fine-tuning"]
    assert [x for x, _, _ in whole] == sorted(x for x, _, _ in whole) and whole[-1][0] == 5


def test_preferences_last_and_a_folder_that_cannot_be_written_is_no_error(home, monkeypatch):
    assert preferred("theme") is None
    prefer("theme", "light")
    assert preferred("theme") == "light"
    (home / "edt" / "app.json").write_text("[torn")
    assert preferred("theme") is None
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    prefer("theme", "dark")
    assert preferred("theme") is None


BLOCKED = """
import asyncio, queue, sys
from edt_cli.ui.signals import leaving_on_signals
async def app():
    full = queue.Queue(1)
    full.put(1)
    with leaving_on_signals(lambda: None):
        print("ready", flush=True)
        full.put(2)
import edt_cli.ui.signals as signals
signals.GRACE_S = 0.3
asyncio.run(app())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_view_whose_terminal_takes_nothing_any_more(number):
    """As when a terminal is closed while the app draws: the queue of what is to be written is full, for ever."""
    process = subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(60) == 128 + number
