"""A finished run in MLflow, TensorBoard and Weights & Biases, read back by each one's own library."""

from __future__ import annotations

import json
import sys
import time
from typing import get_args

import pytest
from toy import random_dataset

from edt_cli.config import EvaluationSettings, Tracker, UserError, load_settings
from edt_cli.data.open import open_dataset
from edt_cli.data.saved import save
from edt_cli.inference.results import evaluate
from edt_cli.inference.tracking import _values, record_of, send
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, digest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("tracked"))
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(60, domains="ab"), folder)
        manifest |= saved | {"data_key": digest(saved)}
    sizes = {"model": {"hidden": 8, "max_length": 12}, "training": {"epochs": 3, "batch": 16, "lr": 0.0123}}
    settings = load_settings("gru4rec", flags=sizes, environment={})
    run = Pipeline(workspace, open_dataset(workspace, "tiny"), settings).run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
    return workspace, run


def curve(record, name: str) -> dict[int, float]:
    return {point.step: point.values[name] for point in record.curves if name in point.values}


def test_a_record_has_what_the_folder_has(finished):
    _, run = finished
    record = record_of(run)
    assert record.settings["training.lr"] == 0.0123
    assert record.tags["edt.data_key"] == run.plan["data_key"]
    assert [point.step for point in record.curves] == [0, 1, 2, 3]
    (document,) = (document for document in run.results() if document["protocol"] == "full")
    name = document["file"]
    for domain in ("a", "b"):
        assert record.results[f"{name}/ndcg@10/{domain}"] == document["domains"][domain]["ndcg@10"]
    assert any("/loss/" in name for name in record.curves[1].values)
    assert record.began < record.ended < time.time()


def test_losses_of_domains_have_their_names():
    losses, ndcg = {"L_0": 1.0, "L_1": 2.0}, {"food": 0.1, "kitchen": 0.2, "mean": 0.15}
    event = EpochEnded(phase="fine-tuning", epoch=1, losses=losses, ndcg=ndcg)
    names = {name: value for name, value in _values(event).items() if "/loss/" in name}
    assert names == {"fine-tuning/loss/food": 1.0, "fine-tuning/loss/kitchen": 2.0}


def test_mlflow_has_the_run_once_however_often_it_is_sent(finished, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    workspace, run = finished
    assert "experiment edt" in [send(workspace, run, "mlflow") for _ in range(2)][1]
    (shown,) = mlflow.search_runs(experiment_names=["edt"], output_format="list")
    record, data = record_of(run), shown.data
    assert data.tags["edt.run"] == run.name and data.params["training.lr"] == "0.0123"
    for name, value in record.results.items():
        assert data.metrics[name.replace("@", "_")] == pytest.approx(value)
    name = next(name for name in record.curves[0].values)
    history = mlflow.MlflowClient().get_metric_history(shown.info.run_id, name.replace("@", "_"))
    assert {metric.step: metric.value for metric in history} == pytest.approx(curve(record, name))


def test_tensorboard_reads_the_curves(finished):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workspace, run = finished
    for _ in range(2):
        send(workspace, run, "tensorboard")
    read = EventAccumulator(str(workspace.root / "tensorboard" / run.name))
    read.Reload()
    record = record_of(run)
    for name in record.curves[0].values:
        assert {scalar.step: scalar.value for scalar in read.Scalars(name)} == pytest.approx(curve(record, name))
    assert set(record.results) <= set(read.Tags()["scalars"])


def test_wandb_keeps_it_offline_where_it_is_told_to(finished, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    workspace, run = finished
    send(workspace, run, "wandb")
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    name, value = next(iter(record_of(run).results.items()))
    expected = [text.encode() for text in (run.name, "training.lr", name, json.dumps(value))]
    # The library writes in a process of its own, which may end a little later.
    end = time.monotonic() + 60
    while not all(text in file.read_bytes() for text in expected):
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize("tracker", get_args(Tracker))
def test_a_tracker_that_is_missing_is_named_with_its_command(finished, tracker, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(UserError, match=rf"{tracker} is not installed.*pip install 'edt-cli\[{tracker}\]'"):
        send(*finished, tracker)


def test_a_run_is_sent_by_the_command_line(finished, monkeypatch, capsys):
    from edt_cli.cli.app import app

    workspace, run = finished
    monkeypatch.setattr("edt_cli.inference.tracking.find_spec", lambda name: object())
    monkeypatch.setattr("edt_cli.inference.tracking._to_mlflow", lambda workspace, record: f"there: {record.name}")
    app(["runs", "send", run.name, "--to", "mlflow", "--workspace", str(workspace.root)], standalone_mode=False)
    assert capsys.readouterr().out.split() == f"{run.name}: there: {run.name}".split()
