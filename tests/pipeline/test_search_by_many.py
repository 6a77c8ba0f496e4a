"""Several processes on one study: each trial is made once, and a process that dies loses none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from test_data_cli import edt as edt  # the command in this process
from test_search import searched
from toy import prepared, random_dataset

from edt_cli.config import UserError
from edt_cli.experiments.search import search
from edt_cli.experiments.study import PROCESS, Study
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e

SPACE = """
preset = "sasrec"
trials = 5
[settings.model]
hidden = 8
blocks = 1
max_length = 12
[settings.training]
epochs = 2
batch = 16
loss = "ce"
negatives = 4
[space]
"training.lr" = {low = 1e-4, high = 1e-2, log = true}
"""


def no_pipeline(chosen):
    raise AssertionError("a trial of this machine is judged by its process")


@pytest.fixture(params=["sqlite", "journal"])
def study(request, tmp_path) -> Study:
    folder = tmp_path / "searches" / "tiny"
    folder.mkdir(parents=True)
    storage = None if request.param == "sqlite" else str(folder / "study.journal")
    return Study.open(folder, 42, storage, no_pipeline)


def of(study: Study, number: int, **process) -> None:
    """Say that another process makes a trial."""
    beat = {"host": socket.gethostname(), "time": time.time(), **process}
    study.optuna._storage.set_trial_user_attr(study.optuna.trials[number]._trial_id, PROCESS, beat)


def test_the_trials_of_a_process_that_is_gone_are_handed_back(study):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = study.next(3, Events())
    gone.suggest_float("training.lr", 0.1, 0.2)
    of(study, 0, pid=ended.pid)
    lively = study.next(3, Events())
    assert (
        lively.number != gone.number and lively.suggest_float("training.lr", 0.1, 0.2) == gone.params["training.lr"]
    )
    of(study, lively.number, pid=os.getppid())
    of(study, study.next(3, Events()).number, pid=os.getppid())
    last = study.next(3, Events())
    states = [trial.state for trial in study.optuna.trials]
    assert states.count(TrialState.RUNNING) == 3 and states[0] == TrialState.FAIL
    of(study, last.number, pid=os.getppid())
    assert study.next(3, Events()) is None, "three are at work, and three are wanted"


def test_a_trial_of_another_machine_is_at_work_as_long_as_its_run_has_a_heartbeat(tmp_path, study):
    class Run:
        folder = tmp_path / "run"

    class Made:
        def existing(self):
            return Run()

    study.pipeline_of = lambda chosen: Made()
    study.next(2, Events()).suggest_float("training.lr", 0.1, 0.2)
    Run.folder.mkdir()
    for beat, at_work in ((time.time(), True), (time.time() - 3600, False)):
        of(study, 0, pid=1, host="elsewhere", time=time.time() - 3600)
        (Run.folder / "heartbeat.json").write_text(json.dumps({"pid": 1, "host": "elsewhere", "time": beat}))
        (trial,) = study.trials(TrialState.RUNNING)
        assert study._at_work(trial) is at_work


def test_processes_of_one_study_draw_differently(tmp_path):
    """Each takes a sampler of its own seed before it draws."""
    folder, storage = tmp_path / "tiny", str(tmp_path / "study.journal")
    folder.mkdir()
    drawn = []
    for _ in range(2):
        study = Study.open(folder, 42, storage, no_pipeline)
        trial = study.next(9, Events())
        drawn.append(trial.suggest_float("training.lr", 0.0, 1.0))
        of(study, trial.number, pid=os.getppid())
    assert drawn[0] != drawn[1]


def test_two_processes_make_each_trial_once(edt, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    workspace = prepared(tmp_path / "ws", random_dataset())
    found = json.loads(edt("search", tmp_path / "space.toml", "--data", "tiny", "--jobs", "2", "--json").stdout)
    trials = replace(workspace, folder=f"searches/{found['search']}")
    assert len(found["trials"]) == len(all_runs(trials)) == 5
    assert len({trial["training.lr"] for trial in found["trials"]}) == 5
    assert found["trials"][0]["ndcg@10"] == max(trial["ndcg@10"] for trial in found["trials"])
    assert (trials.runs / "best.toml").is_file() and (trials.runs / "study.journal").is_file()
    again = json.loads(edt("search", tmp_path / "space.toml", "--data", "tiny", "--json").stdout)
    assert again == found, "alone it goes on with the study that was shared, and there is nothing left to do"
    (tmp_path / "space.toml").write_text(SPACE.replace('"training.lr"', '"training.no_such"'))
    assert "no_such" in edt("search", tmp_path / "space.toml", "--data", "tiny", "--jobs", "2", code=2).stderr


def test_a_trial_that_ends_while_trials_are_counted_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "_hand_back", lambda self: None)
    study = Study.open(tmp_path, seed=1, storage=None)
    other, trials = study.optuna.ask(), study.trials

    def counted(*states):
        found = trials(*states)
        if trials(TrialState.RUNNING):
            study.optuna.tell(other.number, 0.5)
        return found

    monkeypatch.setattr(study, "trials", counted)
    assert study.next(1, Events()) is None


def test_a_search_of_one_process_draws_as_ever(tmp_path):
    made = random_dataset()
    whole = search(Workspace(tmp_path / "whole"), made, searched(trials=2))
    other = search(Workspace(tmp_path / "other"), made, searched(trials=2))
    assert whole.trials == other.trials
    assert (Path(tmp_path) / "whole" / "searches" / whole.name / "study.db").is_file()


@pytest.mark.parametrize(
    "storage",
    [
        "nothing://edt:hush-hush@127.0.0.1/x",
        "postgresql+psycopg://edt:hush-hush@127.0.0.1:9/x",
        "/nowhere/at/all/study.journal",
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(tmp_path, storage):
    with pytest.raises(UserError, match="cannot be used: ") as caught:
        search(Workspace(tmp_path), random_dataset(), searched(), storage=storage)
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_workspace_in_object_storage_has_no_searches(edt, tmp_path, monkeypatch):
    monkeypatch.setenv("EDT_MIRRORS", str(tmp_path / "mirrors"))
    (tmp_path / "space.toml").write_text(SPACE)
    workspace = Workspace.find(Path(f"file://{tmp_path}/storage"))
    prepared(workspace.root, random_dataset())
    done = edt("search", tmp_path / "space.toml", "--data", "tiny", "--workspace", workspace.url, code=2)
    assert "take a workspace on a disk" in done.stderr
