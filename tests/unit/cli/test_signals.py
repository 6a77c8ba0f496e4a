"""A signal ends any command with one line and its own status, and leaves nothing half made."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

WAIT = """
import signal, sys, time
from pathlib import Path
from edt_cli.cli import app
from edt_cli.cli.watch import stopping
from edt_cli.workspace.files import scratch_folder
from edt_cli.workspace.jobs import at_work
from edt_cli.workspace.layout import Workspace
root = Path(sys.argv[1])
@app.app.command()
def wait():
    with scratch_folder(root):
        print("ready", flush=True)
        time.sleep(60)
@app.app.command()
def work():
    with stopping(), at_work(Workspace(root), "work", "demo"):
        wait()
if sys.argv[3:] == ["nohup"]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.argv = ["edt", sys.argv[2]]
app.main()
"""


def ended(root: Path, command: str, number: int) -> tuple[int, list[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(root), command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.splitlines()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "ended by SIGTERM"),
        (signal.SIGHUP, "ended by SIGHUP"),
    ],
)
def test_any_command_ends_as_by_ctrl_c(number, said, tmp_path):
    assert ended(tmp_path, "wait", number) == (128 + number, [said])
    assert not [*tmp_path.iterdir()]


def test_a_job_says_how_it_ended_and_how_to_go_on(tmp_path):
    status, lines = ended(tmp_path, "work", signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert lines == ["stopped; what was done is kept. The same command goes on from there."]
    (events,) = tmp_path.glob("jobs/*/events.jsonl")
    assert json.loads(events.read_text().splitlines()[-1])["outcome"] == "stopped"


def test_what_nohup_ignores_stays_ignored(tmp_path):
    command = [sys.executable, "-c", WAIT, str(tmp_path), "wait", "nohup"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
