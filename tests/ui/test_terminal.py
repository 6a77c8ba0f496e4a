"""Real runs under a pseudo-terminal: from start to finish, left and found again, whatever happens to the view."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from terminals import Terminal

from edt_cli.workspace.events import read_events
from edt_cli.workspace.jobs import ask, heartbeat, jobs_of
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

SHORT = ("train", "--model", "sasrec", "--encoder", "id", "--set", "model.hidden=16", "--device", "cpu")
ENDLESS = (*SHORT, "--epochs", "100000", "--set", "training.patience=100000")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with `demo`; whatever is still at work in it is ended afterwards."""
    from edt_cli.data.prepare import ensure_demo

    root = tmp_path_factory.mktemp("terminal")
    ensure_demo(Workspace(root))
    yield root
    for job in jobs_of(Workspace(root)):
        if isinstance(pid := heartbeat(job).get("pid"), int) and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def newest_job(place: Path) -> Path:
    return jobs_of(Workspace(place))[-1]


def run_of(job: Path) -> Path:
    (name,) = {event.run for event in read_events(job) if event.event == "run"}
    return job.parent.parent / "runs" / name


def events(run: Path) -> int:
    return len(read_events(run))


def goes_on(run: Path, seconds: float = 60.0) -> bool:
    """Whether the run still makes epochs."""
    before, until = events(run), time.monotonic() + seconds
    while time.monotonic() < until:
        if events(run) > before:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.slow
def test_a_run_from_start_to_finish_with_a_resize(place):
    terminal = Terminal(place, *SHORT, "--epochs", "8", "--seeds", "1,2")
    terminal.wait("> training")
    terminal.press("p")  # a slow view might show its first screen after the last epoch
    terminal.wait("= paused")
    terminal.resize(160, 48)
    terminal.wait("to come")
    terminal.wait(lambda text: any(len(line.rstrip()) > 150 for line in text.splitlines()))
    terminal.press("p")
    assert terminal.end(200) == 0
    assert terminal.left_usable()
    assert "Results on demo (synthetic)" in terminal.text and "Seeds 1, 2." in terminal.text
    outcome = [event for event in read_events(newest_job(place)) if event.event == "ended"]
    assert [event.outcome for event in outcome] == ["finished"]


@pytest.mark.slow
def test_left_by_every_way_there_is_found_again_and_stopped(place):
    """q, Ctrl-C, SIGTERM, SIGHUP, a kill and a lost connection end the view alone."""
    terminal = Terminal(place, *ENDLESS)
    terminal.wait("> training")
    terminal.press("q")
    assert terminal.end() == 3 and terminal.left_usable()
    job = newest_job(place)
    assert f"edt ui --attach {job.name}" in terminal.text.replace("\n", "")
    run = run_of(job)
    assert goes_on(run)
    for way in ("\x03", signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        terminal = Terminal(place, "ui", "--attach", run.name)
        terminal.wait("> training")
        if isinstance(way, str):
            terminal.press(way)
        else:
            os.kill(terminal.pid, way)
        terminal.end()
        assert terminal.left_usable(), way
    terminal = Terminal(place, "ui", "--attach", job.name)
    terminal.wait("> training")
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.end() == -signal.SIGKILL
    terminal = Terminal(place, "ui", "--attach", job.name)
    terminal.wait("> training")
    terminal.close()
    os.waitpid(terminal.pid, 0)
    assert goes_on(run)
    terminal = Terminal(place, "ui", "--attach", job.name)
    terminal.wait("> training")
    terminal.press("p")
    terminal.wait("= paused")
    assert not goes_on(run, 1.0)
    terminal.press("p")
    terminal.wait("> training")
    terminal.press("x")
    terminal.wait("Stop this run?")
    terminal.press("e")
    terminal.wait("o stopped")
    last = read_events(run)[-1]
    assert (last.event, last.request) == ("stopped", "stop-after-epoch")
    assert (run / "checkpoint.safetensors").is_file()
    terminal.press("q")
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_killed_run_is_silent_and_its_view_says_how_it_ended(place):
    terminal = Terminal(place, *ENDLESS, "--seeds", "7")
    terminal.wait("> training")
    job = newest_job(place)
    os.kill(heartbeat(job)["pid"], signal.SIGKILL)
    assert terminal.end() == 128 + signal.SIGKILL
    assert terminal.left_usable()
    terminal = Terminal(place, "ui", "--attach", job.name)
    terminal.wait("? silent")
    terminal.press("q")
    assert terminal.end() == 0


def test_a_mistake_ends_in_one_line_with_the_terminal_as_it_was(place):
    terminal = Terminal(place, *SHORT, "--data", "nowhere")
    assert terminal.end() == 1
    assert terminal.left_usable()
    assert "error: there is no dataset 'nowhere'" in terminal.text


def test_without_a_terminal_the_plain_path(place):
    """No escape code on either stream; Ctrl-C stops after the epoch, with a checkpoint, and says how to go on."""
    command = [sys.executable, "-m", "edt_cli", *ENDLESS, "--seeds", "9"]
    environment = {**os.environ, "EDT_WORKSPACE": str(place), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if "epoch 1/" in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    told = "".join(heard) + err
    assert process.returncode == 130 and out == "" and "\x1b" not in told
    assert "Ctrl-C again stops at once" in told and "The same command goes on" in told
    run = run_of(newest_job(place))
    last = read_events(run)[-1]
    assert (last.event, last.request) == ("stopped", "stop-after-epoch")
    assert (run / "checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_a_slow_terminal_never_holds_up_the_run(place):
    """Nobody reads what the view writes: the run makes its epochs all the same."""
    terminal = Terminal(place, *ENDLESS, "--seeds", "11")
    terminal.wait("> training")
    job = newest_job(place)
    run = run_of(job)
    assert all(goes_on(run) for _ in range(3))
    ask([job, run], "stop-now")
    assert terminal.end() == 130
    assert json.loads((job / "control.json").read_text())["request"] == "stop-now"
