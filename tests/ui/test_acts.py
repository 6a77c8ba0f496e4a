"""What can be done from the app: each act by its key, what it asks first, and what is on the disk afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from made import NOW, beat, dataset_of, events_of, histories, run
from screens import text_of
from test_app import drive, seen, typed
from textual.pilot import Pilot
from textual.widgets import Select
from typer.testing import CliRunner

from edt_cli.cli.app import app as edt
from edt_cli.config import UserError
from edt_cli.ui import acts, form
from edt_cli.ui.app import EdtApp
from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.export import figure_of, write
from edt_cli.ui.form import StartForm, arguments_of_form, fields_of_arguments, may_spend, read_choices
from edt_cli.ui.rows import Rows
from edt_cli.ui.run_screen import RunScreen
from edt_cli.ui.screenshots import press, settled
from edt_cli.workspace.annotations import annotations_of
from edt_cli.workspace.jobs import COMMAND, ERRORS, Launched, new_folder
from edt_cli.workspace.layout import Workspace, write_json

pytestmark = pytest.mark.e2e

LIVE = {"pid": os.getpid(), "time": 4e9, "stage": "pre-training epoch 4", "done": 2, "total": 8}


@pytest.fixture
def own(tmp_path: Path) -> Workspace:
    """A workspace to write to: runs finished, stopped with its job's command, and at work."""
    workspace = Workspace(tmp_path / "ws")
    made = dataset_of(histories())
    with workspace.dataset("pair").create(data_key="k1") as (folder, manifest):
        from edt_cli.data.saved import save

        manifest |= save(made, folder)
    run(workspace, "done-s1", {"epochs": 3}, finished=True, model="sasrec", made=made)
    beat(run(workspace, "live-s1", {"epochs": 3, "of": 50}), **LIVE)
    stopped = run(workspace, "stopped-s1", {"epochs": 2, "of": 50, "end": "stopped"}, model="sasrec")
    job = workspace.jobs / "20260101-train"
    events_of(job, [{"event": "job", "command": "train"}, {"event": "run", "run": "stopped-s1"}])
    write_json(job / COMMAND, {"argv": ["train", "--data", "pair", "--model", "sasrec", "--seeds", "44"]})
    for age, folder in enumerate((workspace.runs / "live-s1", stopped, workspace.runs / "done-s1")):
        for path in folder.glob("*.json*"):
            os.utime(path, (NOW - age, NOW - age))
    return workspace


class Process:
    """Stands for a process that was started and is at work."""

    def poll(self) -> int | None:
        return None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that the app starts, none of which is."""
    commands: list[list[str]] = []

    def launch(workspace, command, data, arguments, width):
        commands.append(list(arguments))
        return Launched(new_folder(workspace, command, data, arguments), Process())

    monkeypatch.setattr(acts, "launch", launch)
    return commands


def control(workspace: Workspace, name: str) -> str | None:
    path = workspace.runs / name / "control.json"
    return json.loads(path.read_text())["request"] if path.exists() else None


async def at(pilot: Pilot[None], name: str) -> None:
    """The cursor of the list of runs on a run."""
    pane = pilot.app.screen.pane("Runs")
    pane.query_one(Rows).action_go([row.name for row in pane.rows].index(name))
    await settled(pilot)


def test_a_run_is_started_from_the_form(own, started, monkeypatch, tmp_path):
    """What it asks and costs is counted by a process: here a script that says how edt was called."""
    script = tmp_path / "edt"
    script.write_text(f"#!{sys.executable}\nimport sys\nprint('0 questions,', sys.argv[3:])\n")
    script.chmod(0o755)
    monkeypatch.setattr(form.sys, "executable", str(script))

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["n"])
        screen = pilot.app.screen
        assert isinstance(screen, StartForm)
        assert "edt train --data pair --model llm-edt --seeds 42" in text_of(pilot.app)
        screen.query_one("#system", Select).value = "gru4rec"
        await pilot.press("tab", "tab", "tab", "tab", *typed(",44,x"))
        await press(pilot, ["ctrl+s"])
        assert "seeds are whole numbers" in text_of(pilot.app) and pilot.app.screen is screen and not started
        await press(pilot, ["backspace", "backspace"])
        assert "--model gru4rec --seeds 42,44" in text_of(pilot.app)
        await pilot.click("#count")
        text = await seen(pilot, "0 questions")
        assert "--dry-run" in text and "--no-ui" in text
        await press(pilot, ["ctrl+s"])
        assert isinstance(pilot.app.screen, RunScreen) and "starting" in text_of(pilot.app)
        await press(pilot, ["escape"])
        await seen(pilot, "at work: 2")

    drive(EdtApp(own), step, (100, 36))
    where = ["--workspace", str(own.root)]
    assert started == [["train", "--data", "pair", "--model", "gru4rec", "--seeds", "42,44", *where]]


def test_what_the_form_holds_becomes_arguments_and_back(own):
    choices = read_choices(own)
    given = [
        "train",
        "--data",
        "pair",
        "--model",
        "llm-edt",
        "--preset=paper",
        "--seeds",
        "42, 44",
        "--device",
        "cpu",
    ]
    fields = fields_of_arguments([*given, "--set", "training.lr=1e-4", "--refit"])
    assert fields["more"] == "--set training.lr=1e-4 --refit" and fields["preset"] == "paper"
    whole = {"llm": "", "budget": "", **fields}
    again = arguments_of_form(whole, choices)
    assert again == [
        *given[:5],
        "--preset",
        "paper",
        "--seeds",
        "42,44",
        *given[8:],
        "--set",
        "training.lr=1e-4",
        "--refit",
    ]
    assert fields_of_arguments(again) == {**fields, "seeds": "42,44"}
    for wrong, word in (
        ({"seeds": "x"}, "whole numbers"),
        ({"device": "gpu 7"}, "a device is"),
        ({"more": "--set 'x"}, "not closed"),
        ({"budget": "many"}, "number of USD"),
        ({"budget": "-1"}, "number of USD"),
        ({"llm": "deepseek"}, "give a budget"),
        ({"more": "--set llm.provider=deepseek"}, "give a budget"),
    ):
        with pytest.raises(UserError, match=word):
            arguments_of_form({**whole, **wrong}, choices)
    bounded = arguments_of_form({**whole, "llm": "deepseek", "budget": "2.50"}, choices)
    assert bounded[bounded.index("--provider") :][:4] == ["--provider", "deepseek", "--max-cost", "2.50"]
    # A system that asks no LLM needs no budget.
    assert arguments_of_form({**whole, "system": "sasrec", "preset": "sasrec", "llm": "deepseek"}, choices)
    assert may_spend([], {"EDT_LLM_PROVIDER": "deepseek"}) and may_spend(["--config", "x.toml"], {})
    assert not may_spend(["--provider", "ollama"], {"EDT_LLM_PROVIDER": "deepseek"})


def test_each_act_on_the_list_of_runs(own, started):
    (job,) = own.jobs.iterdir()
    (own.runs / "done-s1" / "weights").write_bytes(bytes(5_000_000))

    async def step(pilot: Pilot[None]) -> None:
        app = pilot.app
        await press(pilot, ["2"])
        await at(pilot, "done-s1")
        footer = text_of(app).splitlines()[-1]
        assert "n New run" in footer and "Resume" not in footer and "Stop" not in footer
        await press(pilot, ["r", "x"])  # nothing is asked of a finished run
        await press(pilot, ["e", *typed("base of all"), "enter"])
        assert annotations_of(own.runs / "done-s1").note == "base of all"
        await seen(pilot, "base of all")
        await press(pilot, ["y"])
        assert app.clipboard == "edt train --data pair --model sasrec --seeds 42 --device cpu"
        await press(pilot, ["R"])
        assert isinstance(app.screen, StartForm) and "--model sasrec" in text_of(app)
        await press(pilot, ["ctrl+s", "escape"])
        assert started.pop()[:7] == ["train", "--data", "pair", "--model", "sasrec", "--seeds", "42"]

        await at(pilot, "stopped-s1")
        assert "r Resume" in text_of(app).splitlines()[-1]
        await press(pilot, ["r"])
        assert "edt train --data pair --model sasrec --seeds 44" in text_of(app) and "goes on" in text_of(app)
        await press(pilot, ["escape"])
        assert not started
        await press(pilot, ["r", "y"])
        assert isinstance(app.screen, RunScreen)
        assert started.pop()[:7] == ["train", "--data", "pair", "--model", "sasrec", "--seeds", "44"]
        await press(pilot, ["escape"])
        write_json(job / COMMAND, {"argv": ["train", "--set", "llm.api_key=***"]})
        await press(pilot, ["r"])
        assert any("a secret was in the command" in told.message for told in app._notifications)
        write_json(job / COMMAND, {"argv": ["compare", "table-2"]})
        await press(pilot, ["r"])
        assert any("from the command line: edt compare table-2" in told.message for told in app._notifications)
        assert not started

        await at(pilot, "live-s1")
        assert "x Stop" in text_of(app).splitlines()[-1]
        await press(pilot, ["X", "x", "escape"])  # what is at work is not deleted
        assert control(own, "live-s1") is None
        await press(pilot, ["x", "e"])
        assert control(own, "live-s1") == "stop-after-epoch"

    drive(EdtApp(own), step, (120, 36))


def test_runs_are_deleted_after_a_question_that_says_what_is_freed(own):
    (own.runs / "done-s1" / "weights").write_bytes(bytes(5_000_000))

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2"])
        await at(pilot, "stopped-s1")
        await press(pilot, ["space"])
        await at(pilot, "done-s1")
        await press(pilot, ["space"])
        await at(pilot, "done-s1")
        await press(pilot, ["delete"])
        assert "these 2 runs" in text_of(pilot.app) and "frees 4.8M" in text_of(pilot.app)
        await press(pilot, ["escape", "M", "X"])
        assert "this run" in text_of(pilot.app) and (own.runs / "done-s1").is_dir()
        await press(pilot, ["y"])
        await seen(pilot, "2 of 2")
        # The screen of a run that is deleted is left.
        await at(pilot, "stopped-s1")
        await press(pilot, ["enter", "X", "y"])
        await seen(pilot, "1 of 1")

    drive(EdtApp(own), step)
    assert [folder.name for folder in own.runs.iterdir()] == ["live-s1"]


def test_the_table_or_chart_at_hand_is_written_in_the_form_that_the_file_is_named_by(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "w"])
        assert "edt-runs.csv" in text_of(pilot.app)
        await press(pilot, ["enter"])
        lines = Path("edt-runs.csv").read_text().splitlines()
        assert len(lines) == 4 and lines[0].startswith("table,run,state,food N,kitchen N")
        assert "done-s1,v finished,0." in lines[3]
        await press(pilot, ["w", "enter"])
        assert "is there already" in text_of(pilot.app)
        await press(pilot, ["escape", "w", "ctrl+u", *typed("runs.png"), "enter"])
        assert any("none of the endings" in told.message for told in pilot.app._notifications)
        await press(pilot, ["4", "w", "ctrl+u", *typed("t.tex"), "enter"])
        assert Path("t.tex").read_text().count(r"\begin{tabular}") == 1 and "Overall" in Path("t.tex").read_text()
        await press(pilot, ["2", "tab", "tab", "w"])
        assert "edt-runs.png" in text_of(pilot.app)
        await press(pilot, ["ctrl+u", *typed("c.csv"), "enter"])
        assert len(Path("c.csv").read_text().splitlines()) == 5

    drive(EdtApp(own), step, (120, 36))
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["c.csv", "edt-runs.csv", "t.tex"]


def test_a_chart_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    chart = Chart("loss", log=True)
    chart.curves = {"food": Curve([(0, 2.0), (1, None), (2, 0.5)])}
    write(tmp_path / "loss.png", figure_of(chart))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    (series,) = figure_of(chart).panels[0].series
    assert series.x == (0, 2) and figure_of(chart).y.log


def test_a_command_that_is_refused_at_once_has_failed_and_says_why(own):
    more = ["--set", "training.lr=0.001", "--set", "training.batch=512", "--seeds", "42,44,46"]
    folder = new_folder(own, "train", "nowhere", ["train", "--data", "nowhere", *more])
    (folder / ERRORS).write_text("error: there is no dataset 'nowhere'\n")

    class Refused(Process):
        def poll(self) -> int | None:
            return 1

    async def step(pilot: Pilot[None]) -> None:
        from edt_cli.ui.followed import Followed

        await pilot.app.push_screen(RunScreen(Followed(own, folder, Launched(folder, Refused()))))
        await seen(pilot, "there is no dataset 'nowhere'")
        text = await seen(pilot, "r Resume")
        assert "x failed" in text
        assert " ".join(["goes on: edt train --data nowhere", *more]) in " ".join(text.split())

    drive(EdtApp(own), step)


def test_edt_stop(own):
    def stop(*words: str) -> str:
        done = CliRunner().invoke(edt, ["stop", *words, "--workspace", str(own.root)])
        return done.output + str(done.exception or "")

    assert "live-s1 was asked to stop after this epoch" in stop("live-s1")
    assert control(own, "live-s1") == "stop-after-epoch"
    document = json.loads(stop("live", "--now", "--json"))
    assert document == {"name": "live-s1", "request": "stop-now", "command": None}
    assert control(own, "live-s1") == "stop-now"
    assert "stopped-s1 is stopped: nothing is at work" in stop("stopped-s1")
    assert "no run and no job named 'x'" in stop("x")


def test_a_process_that_looks_for_no_request_is_ended_as_by_ctrl_c(own):
    """`edt compare` and its like: here, this process, which hears the signal."""
    job = own.jobs / "20260102-compare"
    events_of(job, [{"event": "job", "command": "compare", "data": "plan"}])
    beat(job, **LIVE)
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        done = CliRunner().invoke(edt, ["stop", job.name, "--workspace", str(own.root)])
        until = time.monotonic() + 5
        while not heard and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] and "was asked to stop now" in done.output
    assert not (job / "control.json").exists()
    beat(job, **{**LIVE, "host": "elsewhere"})
    done = CliRunner().invoke(edt, ["stop", job.name, "--workspace", str(own.root)])
    assert "is at work on elsewhere: stop it there" in str(done.exception)
