"""A plan on a local Ray cluster: the same table, also if a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_data_cli import edt as edt  # the command in this process
from test_remote_workspace import bucket as bucket
from test_remote_workspace import s3 as s3
from test_search_by_many import SPACE
from toy import prepared, random_dataset

from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import read_events
from edt_cli.workspace.layout import Workspace

pytest.importorskip("ray")
pytestmark = pytest.mark.e2e

PLAN = """
data = ["tiny"]
[budget]
epochs = 60
[settings.training]
patience = 100
[settings.model]
hidden = 8
blocks = 1
heads = 1
[[systems]]
model = "sasrec"
[[systems]]
model = "gru4rec"
[[systems]]
model = "popularity"
"""


@pytest.fixture(autouse=True)
def checkout_for_workers(monkeypatch):
    """Workers of the cluster are processes of their own."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'backends'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def kill_a_worker(workspace: Workspace, killed: list[str]) -> None:
    """Kill the worker that makes SASRec with SIGKILL, after its second epoch."""
    while not killed:
        time.sleep(0.05)
        for folder in workspace.runs.glob("tiny-sasrec-*"):
            if sum(isinstance(event, EpochEnded) for event in read_events(folder)) < 2:
                continue
            for process in psutil.process_iter(["cmdline"]):
                name = " ".join(process.info["cmdline"] or ())
                if name.startswith("ray::") and "-train-tiny-" in name and process.children():
                    command = " ".join(process.children()[0].cmdline())
                    if "--model sasrec" in command:
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(name)
                        return


def figures(found: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(run["model"], run["protocol"]): run["domains"] for run in found["runs"]}


def test_a_plan_on_a_cluster_that_loses_a_worker_gives_the_same_table(edt, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    tables = []
    for name, on in (("plain", ()), ("ray", ("--on", "ray", "--cpus", "1"))):
        workspace, killed = prepared(tmp_path / name, random_dataset()), list[str]()
        if on:
            threading.Thread(target=kill_a_worker, args=(workspace, killed), daemon=True).start()
        shown = edt("compare", tmp_path / "plan.toml", "--workspace", workspace.root, *on, "--json")
        found = json.loads(shown.stdout)
        assert not found["failed"] and bool(killed) == bool(on)
        tables.append(figures(found))
    assert tables[0] == tables[1] and len(tables[0]) == 3 * 2


def test_a_cluster_that_shares_nothing_but_object_storage_gives_the_same_table(edt, bucket, tmp_path, monkeypatch):
    """The workers' mirror is another folder, as on another machine."""
    from edt_cli.experiments.on_ray import RayCluster, Resources

    (tmp_path / "plan.toml").write_text(PLAN.replace("epochs = 60", "epochs = 2"))
    asks = ("compare", tmp_path / "plan.toml", "--json", "--workspace")
    plain = json.loads(edt(*asks, prepared(tmp_path / "plain", random_dataset()).root).stdout)
    connect = RayCluster.connect

    def connect_elsewhere(on: str, resources: Resources) -> RayCluster:
        with pytest.MonkeyPatch.context() as there:
            there.setenv("EDT_MIRRORS", str(tmp_path / "far"))
            return connect(on, resources)

    monkeypatch.setattr(RayCluster, "connect", connect_elsewhere)
    monkeypatch.setenv("EDT_MIRRORS", str(tmp_path / "head"))
    workspace = Workspace.find(Path(bucket))
    prepared(workspace.root, random_dataset())
    found = json.loads(edt(*asks, bucket, "--on", "ray", "--cpus", "1").stdout)
    assert not found["failed"] and figures(found) == figures(plain)
    made = [
        {path.parent.name for path in tmp_path.glob(f"{name}/*/runs/*/manifest.json")} for name in ("far", "head")
    ]
    assert made[0] == made[1] and len(made[0]) == 3


def test_a_search_on_a_cluster_makes_each_trial_once(edt, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    prepared(tmp_path / "ws", random_dataset())
    asks = ("search", tmp_path / "space.toml", "--data", "tiny", "--workspace", tmp_path / "ws", "--json")
    found = json.loads(edt(*asks, "--on", "ray", "--cpus", "1", "--jobs", "2").stdout)
    assert len(found["trials"]) == len({trial["training.lr"] for trial in found["trials"]}) == 5
    assert len(list((tmp_path / "ws" / "searches" / found["search"]).glob("tiny-sasrec-*/manifest.json"))) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--on", "slurm"), "--on takes ray or ray:ADDRESS"),
        (("--on", "ray", "--gpus", "64"), "no machine of the cluster"),
    ],
)
def test_a_cluster_that_cannot_make_a_run_is_said_at_once(edt, tmp_path, arguments, said):
    (tmp_path / "plan.toml").write_text(PLAN)
    prepared(tmp_path / "ws", random_dataset())
    assert said in edt("compare", tmp_path / "plan.toml", *arguments, code=2).stderr
