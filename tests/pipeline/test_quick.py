"""Smoke runs: seconds, on a small sample of their own, and never taken for a result. And what --epochs limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_data_cli import edt as edt  # the command in this process
from test_data_cli import shops as shops
from toy import dataset as toy_dataset

from edt_cli.config import UserError, load_settings
from edt_cli.data.open import open_dataset
from edt_cli.data.sample import INTERACTIONS, quick_sample
from edt_cli.experiments.plan import Plan
from edt_cli.models.systems import limited
from edt_cli.workspace.layout import Workspace, read_json
from edt_cli.workspace.runs import all_runs, find_runs


def test_a_sample_is_what_its_users_did(tmp_path):
    workspace = Workspace(tmp_path)
    whole = open_dataset(workspace, "demo")
    sample = quick_sample(workspace, whole)
    assert (sample.name, sample.sample_of, sample.domains.names) == ("demo-quick", "demo", whole.domains.names)
    assert INTERACTIONS <= len(sample.sequences.items) < INTERACTIONS + whole.sequences.lengths.max()
    assert np.abs(np.diff(np.bincount(sample.targets("test").domains))) <= 1, "in turn of each domain"
    assert set(sample.sequences.items.tolist()) == set(range(1, sample.domains.items + 1)), "of no other items"
    for number, user in enumerate(sample.user_ids):
        of_whole = whole.user(user)
        names = [whole.catalogue["id"][int(item) - 1] for item in whole.sequences.of(of_whole)]
        assert [sample.catalogue["id"][int(item) - 1] for item in sample.sequences.of(number)] == names
        assert sample.train_lengths[number] == whole.train_lengths[of_whole]
        for split in ("valid", "test"):
            assert sample.target_positions[split][number] == whole.target_positions[split][of_whole]
    assert (sample.domains.of(sample.targets("test").items) == sample.targets("test").domains).all()
    again = quick_sample(workspace, whole)
    assert (again.key, again.user_ids) == (sample.key, sample.user_ids) and sample.key != whole.key
    assert quick_sample(workspace, sample) is sample


def test_a_dataset_of_that_name_is_not_written_over(tmp_path):
    workspace = Workspace(tmp_path)
    whole = open_dataset(workspace, "demo")
    with workspace.dataset("demo-quick").create(recipe="of the user's files"):
        pass
    with pytest.raises(UserError, match="demo-quick"):
        quick_sample(workspace, whole)
    assert workspace.dataset("demo-quick").manifest()["recipe"] == "of the user's files"


def test_where_nothing_is_held_out_all_users_are_drawn_from(tmp_path):
    workspace = Workspace(tmp_path)
    made = toy_dataset({"u": ["a1", "b1"], "v": ["b1"]})
    object.__setattr__(made, "name", "small")
    object.__setattr__(made, "key", "0" * 16)
    with workspace.dataset("small").create(synthetic=False):
        pass
    assert quick_sample(workspace, made).user_ids == ["u", "v"]


def test_vectors_that_came_with_the_data_come_with_the_sample(edt, shops, tmp_path):
    ids = [f"{shop}{number}" for shop in "so" for number in range(5)]
    np.save("vectors.npy", np.arange(1, 31, dtype=np.float32).reshape(10, 3))
    (tmp_path / "vectors.ids.txt").write_text("\n".join(ids))
    files = ("--domain-file", "shop.csv", "--domain-file", "outlet.csv", "--item-vectors", "vectors.npy")
    edt("data", "prepare", "shops", *files)
    workspace = Workspace(tmp_path / "ws")
    whole = open_dataset(workspace, "shops")
    sample = quick_sample(workspace, whole)
    vectors = [
        load_file(dataset.vectors.folder / "embeddings.safetensors")["vectors"] for dataset in (whole, sample)
    ]
    for number, name in enumerate(sample.catalogue["id"], start=1):
        assert (vectors[1][number] == vectors[0][whole.item_number(name)]).all()
    assert sample.has_text.sum() == sample.domains.items
    assert "item vectors: given" in edt("data", "stats", "shops-quick").stdout


@pytest.mark.e2e
def test_a_quick_run_is_told_apart_everywhere(edt, tmp_path):
    workspace = Workspace(tmp_path / "ws")
    edt("train", "--data", "demo", "--model", "popularity", "--no-ui")
    train = ("train", "--data", "demo", "--model", "sasrec", "--quick")
    shown = edt(*train, "--no-ui").stdout
    assert "demo-quick (synthetic, quick: a sample, no result)" in " ".join(shown.split())
    (found,) = json.loads(edt(*train, "--json").stdout)["runs"]
    assert (found["data"], found["quick"]) == ("demo-quick", True)
    (quick,) = [run for run in all_runs(workspace) if run.quick]
    assert quick.name.startswith("demo-quick-sasrec-") and quick.settings.training.epochs == 1
    assert [run.quick for run in find_runs(workspace, None)] == [False], "although it is the newest"
    assert json.loads(edt("eval", "--json").stdout)["data"] == "demo"
    report = " ".join(edt("report").stdout.split())
    assert "Popularity" in report and "quick" not in report
    assert "demo-quick" not in edt("report", "--table", "1").stdout
    named = " ".join(edt("report", "--run", quick.name).stdout.split())
    assert "SASRec" in named and "quick: a sample, no result" in named
    assert "quick" in edt("data", "list").stdout


@pytest.mark.e2e
def test_a_plan_can_be_tried_quickly(edt, tmp_path):
    (tmp_path / "plan.toml").write_text(
        'data = ["demo"]\nmethod = "sasrec"\nsystems = [{model = "popularity"}, {model = "sasrec"}]\n'
    )
    found = json.loads(edt("compare", "plan.toml", "--quick", "--json").stdout)
    assert {(run["data"], run["quick"]) for run in found["runs"]} == {("demo-quick", True)}
    assert {run["model"] for run in found["runs"]} == {"popularity", "sasrec"}
    assert all(phase["epochs"] == 1 for run in found["runs"] for phase in run["phases"].values())
    edt("report", "--plan", "plan.toml", code=1)  # of the plan itself nothing is made
    states = json.loads(edt("compare", "plan.toml", "--quick", "--dry-run", "--json").stdout)["cells"]
    assert {cell["state"] for cell in states} == {"finished"}


@pytest.mark.parametrize(
    ("preset", "but", "expected"),
    [
        ("paper", (), {"finetune_epochs": 3}),
        ("paper", ("finetune_epochs",), {}),
        ("best", (), {}),  # its second phase is off
        ("sasrec", (), {}),
        ("tricdr", (), {}),
        ("popularity", (), {}),
    ],
)
def test_epochs_limits_every_phase(preset, but, expected):
    before = load_settings(preset, environment={})
    found = limited(before, 3, but=but)
    assert found.training.epochs == 3
    assert found.options == {**before.options, **expected}
    assert limited(before, 1000) == before, "and is never more than a phase has"


@pytest.mark.e2e
def test_one_epoch_is_one_in_each_phase_unless_one_is_set_alone(edt, shops, tmp_path):
    edt("data", "prepare", "shops", "--domain-file", "shop.csv", "--domain-file", "outlet.csv")
    train = ("train", "--data", "shops", "--preset", "paper", "--epochs", "1", "--no-ui", "--ablate", "aug")
    train += ("--ablate", "profiling", "--set", "model.hidden=8")
    edt(*train)
    edt(*train, "--set", "options.finetune_epochs=2")
    phases = [read_json(run.folder / "phases.json") for run in all_runs(Workspace(tmp_path / "ws"))]
    assert [[phase["epoch"] for phase in of_run.values()] for of_run in phases] == [[1, 1], [1, 2]]


def test_quick_cells_are_the_runs_of_their_command():
    plan = Plan(data=["demo"], systems=[{"model": "llm-edt", "preset": "paper"}])
    (cell,) = plan.cells()
    object.__setattr__(cell, "quick", True)
    assert "--quick" in cell.arguments("cpu")
    assert cell.settings().training.epochs == 1 and cell.settings().options["finetune_epochs"] == 1
